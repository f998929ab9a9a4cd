"""The `hale` command: one function per command; errors are printed once, at the end of this file."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from hale import __version__
from hale.cli import commands, output, registry, secret
from hale.cli.client import AnswerError, UnreachableError
from hale.cli.options import Data, Json, Project
from hale.cli.remote import connect, data_dir
from hale.errors import HaleError

app = typer.Typer(
    name="hale",
    help="Run deployments and keep their traffic on healthy replicas.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Engine = Literal["auto", "process", "container"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="A deployment's name or id.")]
Spec = Annotated[
    str, typer.Argument(metavar="SPEC", help="A spec file, its folder, or - for standard input.")
]
SpecHere = Annotated[
    str | None,
    typer.Argument(metavar="SPEC", help="A spec file, its folder, or - for standard input; here by default."),
]
SpecName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Its name, instead of the one in the spec.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]
Api = Annotated[
    str | None, typer.Option("--api", metavar="HOST:PORT", help="Where the API listens (127.0.0.1:4253).")
]
Gateway = Annotated[
    str | None,
    typer.Option("--gateway", metavar="HOST:PORT", help="Where requests come in (127.0.0.1:8080)."),
]
Domain = Annotated[
    str | None,
    typer.Option("--domain", metavar="NAME", help="What host names end in (localhost)."),
]
EngineName = Annotated[
    Engine | None,
    typer.Option("--engine", metavar="ENGINE", help="auto, process or container: what runs replicas (auto)."),
]

Machines = Annotated[
    str | None,
    typer.Option("--machines", metavar="FILE", help="Machine types beside Gradient's, as TOML."),
]

app.add_typer(registry.app, name="registry")
app.add_typer(secret.app, name="secret")


@app.command()
def serve(
    *,
    data: Data = None,
    api: Api = None,
    gateway: Gateway = None,
    domain: Domain = None,
    engine: EngineName = None,
    machines: Machines = None,
) -> int:
    """Run the daemon in the foreground. Replicas and gateway outlive it; `hale down` ends them."""
    from hale.cli import serve  # noqa: PLC0415 # commands import what they alone need

    return serve.serve(serve.settings(data, serve.ServeOptions(api, gateway, domain, engine, machines)))


@app.command()
def up(
    spec: SpecHere = None,
    *,
    name: SpecName = None,
    project: Project = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the daemon running.")] = False,
    data: Data = None,
    api: Api = None,
    gateway: Gateway = None,
    domain: Domain = None,
    engine: EngineName = None,
    machines: Machines = None,
) -> int:
    """Apply a spec and follow it until healthy. Without a daemon it runs one, until Ctrl-C."""
    from hale.cli import serve, specs, up  # noqa: PLC0415

    wanted = up.Wanted(specs.read(spec, name), project, data_dir(data))
    return up.up(wanted, serve.ServeOptions(api, gateway, domain, engine, machines), detach=detach)


@app.command()
def apply(
    spec: Spec,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it is healthy, or can't be.")] = False,
    name: SpecName = None,
    project: Project = None,
    data: Data = None,
) -> int:
    """Create or update a deployment."""
    from hale.cli import specs, up  # noqa: PLC0415

    wanted = up.Wanted(specs.read(spec, name), project, data_dir(data))
    with connect(data) as hale:
        return up.follow(hale, wanted) if wait else up.submit(hale, wanted)


@app.command("list")
def list_(*, json: Json = False, project: Project = None, data: Data = None) -> None:
    """List deployments."""
    with connect(data) as hale:
        commands.show_list(hale, project, json=json)


@app.command()
def get(name: Name, *, json: Json = False, project: Project = None, data: Data = None) -> None:
    """Show a deployment's replicas and their checks.

    For each replica: how it is and since when, every check's last answer, why it restarted, what comes next.
    """
    with connect(data) as hale:
        commands.show_deployment(hale, hale.named(name, project), json=json)


@app.command()
def events(
    name: Name, *, follow: Follow = False, json: Json = False, project: Project = None, data: Data = None
) -> None:
    """Show what happened to a deployment, oldest first."""
    with connect(data) as hale:
        commands.show_events(hale, hale.named(name, project), follow=follow, json=json)


@app.command()
def logs(
    name: Name,
    *,
    replica: Annotated[
        str | None, typer.Option("--replica", metavar="R", help="A replica's id, or how it begins.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="The last N lines alone.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="When each line was written, before it.")
    ] = False,
    follow: Follow = False,
    json: Json = False,
    project: Project = None,
    data: Data = None,
) -> None:
    """Print what a deployment's replicas wrote."""
    wanted = commands.Lines(replica, tail, follow, timestamps, json)
    with connect(data) as hale:
        commands.show_logs(hale, hale.named(name, project), wanted)


@app.command()
def history(name: Name, *, json: Json = False, project: Project = None, data: Data = None) -> None:
    """List a deployment's revisions, newest first."""
    with connect(data) as hale:
        commands.show_history(hale, hale.named(name, project), json=json)


@app.command()
def rollback(
    name: Name,
    revision: Annotated[
        str | None,
        typer.Argument(metavar="REVISION", help="Its number or spec id; by default the last not failed."),
    ] = None,
    *,
    project: Project = None,
    data: Data = None,
) -> None:
    """Go back to an earlier revision, as a new one."""
    with connect(data) as hale:
        commands.rollback(hale, hale.named(name, project), revision)


@app.command()
def scale(
    name: Name,
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, max=10_000, help="How many replicas.")],
    *,
    project: Project = None,
    data: Data = None,
) -> None:
    """Change the number of a deployment's replicas."""
    with connect(data) as hale:
        commands.scale(hale, hale.named(name, project), replicas)


@app.command()
def restart(name: Name, *, project: Project = None, data: Data = None) -> None:
    """Replace every replica. No request is lost."""
    with connect(data) as hale:
        commands.restart(hale, hale.named(name, project))


@app.command()
def delete(name: Name, *, project: Project = None, data: Data = None) -> None:
    """Delete a deployment. Its replicas finish their requests and end."""
    with connect(data) as hale:
        commands.delete(hale, hale.named(name, project))


@app.command()
def down(*, data: Data = None) -> None:
    """End the daemon, the gateway and all replicas. The next start of a daemon brings them back."""
    commands.down(data)


@app.command()
def validate(spec: Spec, *, name: SpecName = None) -> None:
    """Check a spec without applying it. Every problem is shown, with its place."""
    from hale.cli import specs  # noqa: PLC0415

    specs.validate(spec, name)


@app.command()
def render(
    spec: Spec,
    *,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help="What the cluster is like; YAML or JSON."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Where it goes (default).")
    ] = None,
    domain: Domain = None,
    form: Annotated[
        Literal["yaml", "json"], typer.Option("--output", "-o", metavar="FORMAT", help="yaml or json (yaml).")
    ] = "yaml",
    name: SpecName = None,
) -> None:
    """Print a spec as manifests for Kubernetes. What is different on a cluster is told on stderr."""
    from hale.cli import render  # noqa: PLC0415

    render.show(spec, name, settings=settings, namespace=namespace, domain=domain, json=form == "json")


def _version(given: bool) -> None:  # noqa: FBT001 # Typer calls it
    if given:
        output.print_line(f"hale {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _hale(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run deployments and keep their traffic on healthy replicas."""
    if context.invoked_subcommand is None:
        sys.stderr.write(context.get_help() + "\n")
        raise typer.Exit(2)


def main() -> None:
    output.prepare()
    code = run(sys.argv[1:])
    output.finish()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and say what went wrong, if anything did: the exit code."""
    try:
        code = app(arguments, prog_name="hale", standalone_mode=False)
        sys.stdout.flush()
    except HaleError as error:
        output.print_error(error, error.issues if isinstance(error, AnswerError) else ())
        return 3 if isinstance(error, UnreachableError) else 1
    except TyperException as error:
        return _wrong_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except OSError as error:
        return _broken(error)
    return code if isinstance(code, int) else 0


def _wrong_usage(error: TyperException) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "hale"
    # The library of choices puts its own name for them before the words.
    if message := error.format_message().replace(" Value error, ", " "):
        output.print_error(HaleError(message[0].lower() + message[1:].rstrip("."), hint=f"{command} --help"))
    return error.exit_code


def _broken(error: OSError) -> int:
    if error.errno == errno.EPIPE:
        output.close_pipe()
        return 141
    output.print_error(HaleError(f"cannot go on: {error.strerror or error}"))
    return 1


if __name__ == "__main__":
    main()
