"""`hale registry`: the container registries that images are pulled from."""

from typing import Annotated, Literal

import typer

from hale.cli import answers, hidden, output, words
from hale.cli.answers import Registry
from hale.cli.now import now
from hale.cli.options import Data, Json
from hale.cli.remote import Answer, Remote, connect, near
from hale.errors import HaleError, NotFoundError

app = typer.Typer(
    help="Container registries: a spec names one in `containerRegistry`.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Kind = Literal["other", "dockerhub", "gcr", "ghcr", "digitalocean", "azure"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="The registry's name in specs.")]

_PATH = "/container-registries"


@app.command()
def add(
    name: Name,
    *,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Where it is, like registry.example.org.")],
    username: Annotated[str, typer.Option("--username", metavar="USER", help="Who pulls from it.")],
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAMESPACE", help="The part of it that images are in.")
    ] = "",
    kind: Annotated[
        Kind,
        typer.Option("--kind", metavar="KIND", help="dockerhub, gcr, ghcr, digitalocean, azure or other."),
    ] = "other",
    data: Data = None,
) -> None:
    """Add a registry, or replace the one of that name. The password comes from standard input.

    On a terminal it is asked for, and not shown.
    """
    password = hidden.value("password", f"add registry {name}")
    with connect(data) as hale:
        known = next((each.value for each in listed(hale) if each.value.name == name), None)
        body = {"name": name, "url": url, "username": username, "namespace": namespace, "kind": kind}
        if known is None:
            hale.client.post(_PATH, body | {"password": password})
        else:
            hale.client.put(f"{_PATH}/{known.id}", body | {"password": password})
    done = "added" if known is None else "there already, updated"
    output.say(f"registry {name}: {done}; `hale registry test {name}` logs in to it")


@app.command("list")
def list_(*, json: Json = False, data: Data = None) -> None:
    """List registries. Passwords are not shown, here or anywhere."""
    with connect(data) as hale:
        registries = listed(hale)
    if json:
        output.print_json([each.document for each in registries])
    elif not registries:
        output.say("no registries: `hale registry add NAME --url URL --username USER` adds one")
    else:
        from hale.cli import screens  # noqa: PLC0415 # Rich is slow to import

        output.show(screens.registries([each.value for each in registries], now()))


@app.command("test")
def log_in(name: Name, *, json: Json = False, data: Data = None) -> int:
    """Log in to a registry, as a pull would."""
    with connect(data) as hale:
        registry = named(hale, name)
        answer = hale.client.get(f"{_PATH}/{registry.id}/test-connection")
    good = bool(answer.get("success"))
    if json:
        output.print_json(answer)
    elif good:
        output.print_line(words.line(f"{registry.name}: logged in to {registry.url} as {registry.username}"))
    else:
        raise refusal(registry, answer.get("error") or "no reason is given")
    return 0 if good else 1


def refusal(registry: Registry, why: str) -> HaleError:
    """The daemon's own sentence with its hint, or one around what it gave as the reason."""
    message, hint = words.hinted(why)
    if not message.startswith("cannot "):
        message = f"cannot log in to {registry.url} as {registry.username}: {message}"
    return HaleError(
        message,
        hint=hint or f"`hale registry add {registry.name} …` sets its password anew",
    )


@app.command()
def remove(name: Name, *, data: Data = None) -> None:
    """Remove a registry. Images that are here stay."""
    with connect(data) as hale:
        registry = named(hale, name)
        deployments = [each.value for each in hale.deployments()]
        using = [each.name for each in deployments if each.registry in {registry.name, registry.id}]
        hale.client.delete(f"{_PATH}/{registry.id}")
    output.say(f"registry {name}: removed")
    if using:
        output.say(
            f"warning: {', '.join(using)} pulled through it: what runs stays, and the next pull fails until"
            " there is one of that name again"
        )


def listed(hale: Remote) -> list[Answer[Registry]]:
    """Oldest first."""
    return list(hale.items(_PATH, answers.registry, order="asc"))


def named(hale: Remote, name: str) -> Registry:
    registries = [each.value for each in listed(hale)]
    found = [each for each in registries if name in {each.name, each.id}]
    if found:
        return found[0]
    guess = near(name, [each.name for each in registries])
    raise NotFoundError(
        f"cannot find registry {name}: there is none of that name",
        hint=guess or "`hale registry list` shows what there is",
    )
