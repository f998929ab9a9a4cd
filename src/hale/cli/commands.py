"""What the commands that are more than a question and an answer do."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hale.cli import output, words
from hale.cli.answers import JSON, Deployment, Health, LogLine
from hale.cli.client import AnswerError, NoDaemonError, UnreachableError
from hale.cli.follow import Wakes, events
from hale.cli.now import now
from hale.cli.remote import Answer, Remote, connect, data_dir
from hale.core.event import Event
from hale.errors import HaleError

_LOG_PAUSE = 0.5
"""Seconds between two looks for more lines of a log."""

_DOWN_PATIENCE = 30.0
"""Seconds that a daemon's process may take to end once it no longer answers."""


def show_list(hale: Remote, project: str | None, *, json: bool) -> None:
    listed = [(each, health) for each in hale.deployments(project) if (health := _health(hale, each.value))]
    if json:
        output.print_json([_summary(each, health) for each, health in listed])
        return
    if not listed:
        where = f" in project {project}" if project else ""
        output.say(f"no deployments{where}: `hale up SPEC` makes one")
        return
    from hale.cli import screens  # noqa: PLC0415 # Rich is slow to import, and JSON does without

    rows = [(each.value, health) for each, health in listed]
    projects = hale.projects() if len({deployment.project_id for deployment, _ in rows}) > 1 else {}
    output.show(screens.deployments(rows, projects, now(), output.console().width))


def _health(hale: Remote, deployment: Deployment) -> Health | None:
    """None when it was deleted since it was listed."""
    try:
        return hale.health(deployment.id).value
    except AnswerError as error:
        if error.status == 404:
            return None
        raise


def _summary(deployment: Answer[Deployment], health: Health) -> JSON:
    """The API's document, and what the table has beside it."""
    return deployment.document | {
        "revision": health.revision,
        "replicas": deployment.value.wanted,
        "readyReplicas": health.ready,
        "status": words.status(deployment.value, health.ready, health.preparation),
    }


def show_deployment(hale: Remote, deployment: Deployment, *, json: bool) -> None:
    health = hale.health(deployment.id)
    if json:
        output.print_json(health.document)
        return
    from hale.cli import screens  # noqa: PLC0415

    output.show(screens.deployment_screen(deployment, health.value, now()))


def show_history(hale: Remote, deployment: Deployment, *, json: bool) -> None:
    revisions = hale.revisions(deployment.id)
    if json:
        output.print_json([each.document for each in revisions])
        return
    from hale.cli import screens  # noqa: PLC0415

    output.show(screens.history([each.value for each in revisions], now()))


def show_events(hale: Remote, deployment: Deployment, *, follow: bool, json: bool) -> None:
    known = hale.events(deployment.id)
    if json and not follow:
        output.print_json([each.document for each in known])
        return
    if not known and not follow:
        output.say(f"no events of {deployment.name}")
    ids = {each.value.replica_id for each in known if each.value.replica_id}
    short = words.short_ids(ids)
    for each in known:
        _print_event(each, short, json=json)
    output.flush()
    if not follow:
        return
    for each in events(hale, deployment.id, max((each.value.id for each in known), default=0)):
        if each.value.replica_id and each.value.replica_id not in ids:
            ids.add(each.value.replica_id)
            short = words.short_ids(ids)
        _print_event(each, short, json=json)
        output.flush()


def _print_event(event: Answer[Event], short: Mapping[str, str], *, json: bool) -> None:
    if json:
        output.print_json_line(event.document)
    else:
        output.print_line(words.event(event.value, short))


@dataclass(frozen=True, slots=True)
class Lines:
    """Which lines of a log, and how: `tail` is how many of those there are (None: all)."""

    replica: str | None = None
    tail: int | None = None
    follow: bool = False
    timestamps: bool = False
    json: bool = False


def show_logs(hale: Remote, deployment: Deployment, wanted: Lines) -> None:
    replica = wanted.replica
    replica_id = None if replica is None else hale.replica(deployment.id, replica)
    if wanted.json and not wanted.follow:
        known = deque(hale.log_lines(deployment.id, replica_id), wanted.tail)
        output.print_json([each.document for each in known])
        return
    last: dict[str, str] = {}
    pause = Wakes()
    tail = wanted.tail
    while True:
        # The cursor is the id of the last line of each replica.
        after = ",".join(last.values()) or None
        for each in _noted(hale.log_lines(deployment.id, replica_id, after), last, tail):
            _print_log(each, wanted)
        output.flush()
        if not wanted.follow:
            break
        tail = None
        pause.wait(_LOG_PAUSE)
    if not last:
        output.say(f"no log lines of {deployment.name}" + (f", replica {replica}" if replica else ""))


def _noted(
    lines: Iterator[Answer[LogLine]], last: dict[str, str], tail: int | None
) -> Iterator[Answer[LogLine]]:
    """The lines, or the last few of them; `last` gets to know where each replica's end."""

    def note() -> Iterator[Answer[LogLine]]:
        for each in lines:
            last[each.value.replica_id] = each.value.id
            yield each

    return note() if tail is None else iter(deque(note(), tail))


def _print_log(entry: Answer[LogLine], wanted: Lines) -> None:
    if wanted.json:
        output.print_json_line(entry.document)
        return
    line = entry.value
    text = words.clean(line.text.rstrip("\r\n"))
    at = f"{words.local_time(line.at)}  " if wanted.timestamps and line.at is not None else ""
    who = f"{line.replica_id[:8]} | " if wanted.replica is None else ""
    output.print_line(f"{at}{who}{text}")


def scale(hale: Remote, deployment: Deployment, replicas: int) -> None:
    waits = hale.health(deployment.id).value.preparation
    hale.change(deployment.id, replicas=replicas)
    output.say(f"{deployment.name}: {words.counted(replicas, 'replica')} wanted")
    if waits is not None and replicas:
        output.say(
            f"hint: none comes or goes before {words.line(waits.doing)} is done; `hale rollback` goes back"
        )


def restart(hale: Remote, deployment: Deployment) -> None:
    waits = hale.health(deployment.id).value.preparation
    hale.restart(deployment.id)
    if waits is None:
        output.say(f"{deployment.name}: its replicas are being replaced")
        return
    doing = words.line(waits.doing)
    output.say(f"{deployment.name}: its replicas will be replaced once {doing} is done")


def rollback(hale: Remote, deployment: Deployment, revision: str | None) -> None:
    number = int(revision) if revision is not None and revision.isdecimal() else revision
    current, like = hale.rollback(deployment.id, number)
    output.say(f"{deployment.name}: revision {current} is as revision {like}")


def delete(hale: Remote, deployment: Deployment) -> None:
    hale.delete(deployment.id)
    output.say(f"{deployment.name}: deleted, its replicas are being ended")


def down(data: Path | None) -> None:
    """End the daemon with all it runs, and return once its process is gone."""
    from hale.cli import background  # noqa: PLC0415 # for this command alone

    with _to_end(data) as hale:
        server = hale.server()
        gone = background.ended(int(server["pid"])) if _here(hale, server.get("data")) else None
        hale.down()
        output.say("stopping the daemon, its replicas and the gateway")
        pause = Wakes()
        while _answers(hale):
            pause.wait(0.2)
    if gone is not None and not gone(_DOWN_PATIENCE):
        raise HaleError(
            f"cannot see the daemon end: it no longer answers, and process {server['pid']} still runs"
        )
    output.say("hale is down")


@contextmanager
def _to_end(data: Path | None) -> Iterator[Remote]:
    try:
        with connect(data) as hale:
            yield hale
    except NoDaemonError as error:
        raise NoDaemonError(
            f"hale is down already: no daemon is running on {data_dir(data)}",
            hint="what a killed one left running is found by `hale serve`, and ended by `hale down` then",
        ) from error


def _here(hale: Remote, data: object) -> bool:
    """Whether the daemon is on this machine: the token in its data folder is the one it took from us."""
    try:
        return Path(str(data), "token").read_text(encoding="utf-8").strip() == hale.client.place.token
    except (OSError, UnicodeDecodeError):
        return False


def _answers(hale: Remote) -> bool:
    try:
        hale.client.get("/health")
    except UnreachableError:
        return False
    return True
