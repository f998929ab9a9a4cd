"""`hale secret`: values that a spec refers to as `secret:NAME`. Without --team they are a project's."""

from dataclasses import dataclass
from typing import Annotated

import typer

from hale.cli import answers, hidden, output
from hale.cli.answers import SecretEntry
from hale.cli.client import AnswerError, expected
from hale.cli.now import now
from hale.cli.options import Data, Json
from hale.cli.remote import DEFAULT_PROJECT, Remote, connect, near
from hale.core.secret import is_name
from hale.errors import HaleError, NotFoundError, RefusedError

app = typer.Typer(
    help="Secrets: a spec refers to one as `secret:NAME`. A project's goes before the team's.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name: letters, digits and _.")]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="PROJECT", help="Of this project; without it of `default`, as `hale up`."
    ),
]
Team = Annotated[bool, typer.Option("--team", help="Of the team: for all projects.")]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose secrets: a project's or the team's."""

    path: str
    name: str
    project_id: str | None = None


def scope(hale: Remote, project: str | None, *, team: bool) -> Scope:
    if team:
        return Scope(f"/teams/{_team(hale)}/secrets", "the team")
    # `default` is an id that is always there, as for `hale up`.
    project_id = DEFAULT_PROJECT if project is None else hale.project_id(project)
    return Scope(f"/projects/{project_id}/secrets", f"project {project or DEFAULT_PROJECT}", project_id)


def _team(hale: Remote) -> str:
    session = hale.client.get("/auth/session")
    with expected(hale.client.place, "/auth/session"):
        return str(session["team"]["id"])


def check(project: str | None, *, team: bool) -> None:
    if team and project is not None:
        raise typer.BadParameter("--project and --team: a secret is of one or the other")


@app.command("set", context_settings={"allow_extra_args": True})
def set_(
    context: typer.Context, name: Name, *, project: Project = None, team: Team = False, data: Data = None
) -> None:
    """Set a secret, new or not. The value comes from standard input, less one newline at its end.

    On a terminal it is asked for, and not shown.
    """
    check(project, team=team)
    if context.args:  # what it is must not be said, as it is of an argument too many
        raise typer.BadParameter(
            "the value is not an argument, which others could see: `hale secret set NAME < file-with-it`"
        )
    if not is_name(name):
        raise RefusedError(
            "cannot set the secret: a name is a letter, then letters, digits and _, at most 128",
            hint="the value is not an argument: it comes from standard input",
        )
    value = hidden.value("value", f"set secret {name}")
    with connect(data) as hale:
        where = scope(hale, project, team=team)
        known = _put(hale, where, name, value)
    text = "changed; deployments that use it get it when they are next applied" if known else "set"
    output.say(f"secret {name} of {where.name}: {text}")


def _put(hale: Remote, where: Scope, name: str, value: str) -> bool:
    """Whether there was one already."""
    try:
        hale.client.patch(f"{where.path}/{name}", {"value": value})
    except AnswerError as error:
        if error.status != 404:
            raise
        hale.client.post(where.path, {"name": name, "value": value})
        return False
    return True


@app.command("list")
def list_(*, json: Json = False, project: Project = None, team: Team = False, data: Data = None) -> None:
    """List secrets by name. Values are not shown, here or anywhere."""
    check(project, team=team)
    with connect(data) as hale:
        where = scope(hale, project, team=team)
        secrets = list(hale.items(where.path, answers.secret, order="asc"))
    if json:
        output.print_json([each.document for each in secrets])
    elif not secrets:
        how = "`hale secret set NAME --team` sets one"
        if not team:
            how = "`hale secret set NAME` sets one; `hale secret list --team` shows those for all projects"
        output.say(f"no secrets of {where.name}: {how}")
    else:
        from hale.cli import screens  # noqa: PLC0415 # Rich is slow to import

        output.show(screens.secrets([each.value for each in secrets], now()))


@app.command()
def remove(name: Name, *, project: Project = None, team: Team = False, data: Data = None) -> None:
    """Remove a secret. What was applied with it keeps its value until it is next applied."""
    check(project, team=team)
    with connect(data) as hale:
        where = scope(hale, project, team=team)
        if not is_name(name):
            raise _unknown(hale, where, name)
        using = _using(hale, where, name)
        try:
            hale.client.delete(f"{where.path}/{name}")
        except AnswerError as error:
            if error.status != 404:
                raise
            raise _unknown(hale, where, name) from error
    output.say(f"secret {name} of {where.name}: removed")
    if using:
        output.say(
            f"warning: {', '.join(using)} used it: what runs keeps the value, and the next apply or rollback"
            " needs another secret of that name"
        )


def _using(hale: Remote, where: Scope, name: str) -> list[str]:
    """Names of the deployments that were applied with it."""
    if not any(each.used and each.name == name for each in _all(hale, where.path)):
        return []
    referring = [each.value for each in hale.deployments() if name in each.value.secrets]
    if where.project_id is None:  # those that have one of their own don't use the team's
        projects = {each.project_id for each in referring}
        own = {each for each in projects if _has(hale, f"/projects/{each}/secrets", name)}
        return [each.name for each in referring if each.project_id not in own]
    return [each.name for each in referring if each.project_id == where.project_id]


def _has(hale: Remote, path: str, name: str) -> bool:
    return any(each.name == name for each in _all(hale, path))


def _all(hale: Remote, path: str) -> list[SecretEntry]:
    return [each.value for each in hale.items(path, answers.secret)]


def _unknown(hale: Remote, where: Scope, name: str) -> HaleError:
    names = [each.name for each in _all(hale, where.path)]
    return NotFoundError(
        f"cannot find secret {name} of {where.name}: there is none of that name",
        hint=near(name, names)
        or "`hale secret list` shows a project's, `hale secret list --team` the team's",
    )
