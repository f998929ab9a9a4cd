"""The daemon as the commands see it: deployments by name, values instead of JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from hale.cli import answers
from hale.cli.answers import JSON, Deployment, Health, LogLine, Revision
from hale.cli.client import Client, expected, find
from hale.cli.words import short_ids
from hale.core.event import Event
from hale.errors import HaleError, NotFoundError
from hale.settings import default_data_dir

T = TypeVar("T")

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came, for `--json`, and what it means."""

    document: JSON
    value: T


def data_dir(given: Path | None) -> Path:
    return (given or default_data_dir()).expanduser().absolute()


@contextmanager
def connect(data: Path | None) -> Iterator["Remote"]:
    """The daemon that the environment or the data folder names."""
    client = Client(find(data_dir(data)))
    try:
        yield Remote(client)
    finally:
        client.close()


class Remote:
    """What can be asked of a daemon."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def server(self) -> Mapping[str, JSON]:
        document = self.client.get("/server")
        with expected(self.client.place, "/server"):
            return {"version": document["version"], **document}

    def deployments(self, project: str | None = None) -> Sequence[Answer[Deployment]]:
        """All of them, oldest first, or those of one project (its name or id)."""
        path = "/deployments"
        if project is not None:
            path = f"/projects/{self.project_id(project)}/deployments"
        return list(self.items(path, answers.deployment, order="asc"))

    def projects(self) -> Mapping[str, str]:
        """Names of projects by their id."""
        projects = list(self.client.items("/projects"))
        with expected(self.client.place, "/projects"):
            return {each["id"]: each["name"] for each in projects}

    def project_id(self, project: str) -> str:
        projects = self.projects()
        if project in projects:
            return project
        found = [project_id for project_id, name in projects.items() if name == project]
        if len(found) > 1:
            raise HaleError(
                f"cannot tell which project {project} is meant: there are {', '.join(found)}",
                hint="give its id",
            )
        if found:
            return found[0]
        raise NotFoundError(
            f"cannot find project {project}: there is none", hint=_near(project, projects.values())
        )

    def named(self, name: str, project: str | None = None) -> Deployment:
        """The deployment with this id or name; more than one of that name is refused."""
        everything = [each.value for each in self.deployments(project)]
        found = [each for each in everything if each.id == name] or [
            each for each in everything if each.name == name
        ]
        if not found:
            raise NotFoundError(
                f"cannot find deployment {name}: there is none of that name or id",
                hint=_near(name, [each.name for each in everything]),
            )
        if len(found) > 1:
            projects = self.projects()
            places = ", ".join(
                f"{projects.get(each.project_id, each.project_id)} ({each.id})" for each in found
            )
            raise HaleError(
                f"cannot tell which deployment {name} is meant: there is one in each of {places}",
                hint="add --project, or give its id",
            )
        return found[0]

    def deployment(self, deployment_id: str) -> Deployment:
        path = f"/deployments/{deployment_id}"
        return self._read(path, answers.deployment, self.client.get(path)).value

    def health(self, deployment_id: str) -> Answer[Health]:
        path = f"/deployments/{deployment_id}/health"
        return self._read(path, answers.health, self.client.get(path))

    def events(self, deployment_id: str) -> Sequence[Answer[Event]]:
        """All that are kept, oldest first."""
        return list(self.items(f"/deployments/{deployment_id}/events", answers.event, order="asc"))

    def last_event_id(self, deployment_id: str) -> int:
        path = f"/deployments/{deployment_id}/events"
        page = self.client.get(path, order="desc", limit=1)
        with expected(self.client.place, path):
            return max((int(each["id"]) for each in page["items"]), default=0)

    def stream(self, deployment_id: str, after: int) -> Iterator[Answer[Event]]:
        """Events with an id above `after`, as they come, until the daemon ends the stream."""
        import json  # noqa: PLC0415 # the client has it loaded by now

        path = f"/deployments/{deployment_id}/events"
        for _, data in self.client.stream(path, after=str(after)):
            with expected(self.client.place, path):
                document = json.loads(data)
            yield self._read(path, answers.event, document)

    def log_lines(
        self, deployment_id: str, replica_id: str | None = None, after: str | None = None
    ) -> Iterator[Answer[LogLine]]:
        path = f"/deployments/{deployment_id}/logs"
        return self.items(path, answers.log_line, instanceId=replica_id, after=after, order="asc")

    def replica(self, deployment_id: str, prefix: str) -> str:
        """The id of the replica that is named by it, or by a beginning that no other has."""
        ids = [replica.id for replica in self.health(deployment_id).value.replicas]
        runs = self.client.get(f"/deployments/{deployment_id}/runs", limit=120)
        with expected(self.client.place, "/runs"):
            ids += [each["instanceId"] for run in runs for each in run["instances"]]
        found = sorted({each for each in ids if each.startswith(prefix)})
        if prefix in found or len(found) == 1:
            return prefix if prefix in found else found[0]
        known = ", ".join(short_ids(found or ids).values())
        if found:
            raise HaleError(
                f"cannot tell which replica {prefix} is meant: {known} begin so", hint="give more of it"
            )
        raise NotFoundError(
            f"cannot find replica {prefix}: there is none", hint=f"there are {known}" if known else ""
        )

    def revisions(self, deployment_id: str) -> Sequence[Answer[Revision]]:
        """Newest first."""
        return list(self.items(f"/deployments/{deployment_id}/revisions", answers.revision))

    def apply(self, config: JSON, project: str | None) -> Deployment:
        project_id = DEFAULT_PROJECT if project is None else self.project_id(project)
        answer = self.client.post("/deployments", {"projectId": project_id, "config": config})
        with expected(self.client.place, "/deployments"):
            deployment_id = answer["deploymentId"]
        return self.deployment(deployment_id)

    def change(self, deployment_id: str, **wanted: object) -> None:
        self.client.patch(f"/deployments/{deployment_id}", wanted)

    def restart(self, deployment_id: str) -> None:
        self.client.post(f"/deployments/{deployment_id}/restart")

    def rollback(self, deployment_id: str, revision: int | str | None) -> tuple[int, int]:
        """Apply an earlier revision again; the number it has now, and the one it had."""
        path = f"/deployments/{deployment_id}/rollback"
        answer = self.client.post(path, {} if revision is None else {"revision": revision})
        with expected(self.client.place, path):
            return int(answer["revision"]), int(answer["like"])

    def delete(self, deployment_id: str) -> None:
        self.client.delete(f"/deployments/{deployment_id}")

    def down(self) -> None:
        self.client.post("/down")

    def items(self, path: str, read: Callable[[JSON], T], **query: object) -> Iterator[Answer[T]]:
        """All of a listing, page after page."""
        for document in self.client.items(path, limit=120, **query):
            yield self._read(path, read, document)

    def _read(self, path: str, read: Callable[[JSON], T], document: JSON) -> Answer[T]:
        with expected(self.client.place, path):
            return Answer(document, read(document))


def near(name: str, names: Sequence[str]) -> str:
    """A guess at what was meant, if one is near."""
    from difflib import get_close_matches  # noqa: PLC0415 # only for this message

    found = get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else ""


def _near(name: str, names: object) -> str:
    every = sorted(set(map(str, names)))  # type: ignore[call-overload] # any iterable of names
    if guess := near(name, every):
        return guess
    return "`hale list` shows what there is" if every else "nothing is deployed yet: `hale up SPEC`"
