"""The options of `hale serve`, and the command itself."""

import re
from dataclasses import dataclass
from pathlib import Path

import typer

from hale.cli.remote import data_dir
from hale.machines import GRADIENT, read
from hale.settings import API_HOST, API_PORT, GATEWAY_HOST, GATEWAY_PORT, Address, Settings


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was asked for on the command line; None: the default."""

    api: str | None = None
    gateway: str | None = None
    domain: str | None = None
    engine: str | None = None
    machines: str | None = None

    def given(self) -> tuple[str, ...]:
        """The options that were given, as they are written on a command line."""
        named = {
            "--api": self.api,
            "--gateway": self.gateway,
            "--domain": self.domain,
            "--engine": self.engine,
            "--machines": self.machines,
        }
        return tuple(part for name, value in named.items() if value is not None for part in (name, value))


def address(text: str) -> Address:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` for the default host."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is not HOST:PORT, with a port of 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise typer.BadParameter(f"{text!r}: an IPv6 address goes in brackets, [::1]:{port}")
    return Address(host.strip("[]") or API_HOST, int(port))


_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_DOMAIN_LENGTH = 253 - 41
"""Characters: a deployment's label and a dot go before it in a host name."""


def domain(text: str) -> str:
    """A host name in lower case: it goes into the gateway's tables."""
    name = text.lower()
    if len(name) > _DOMAIN_LENGTH or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise typer.BadParameter(
            f"{text!r} is not a domain: letters, digits and hyphens with dots between them,"
            f" at most {_DOMAIN_LENGTH} characters"
        )
    return name


def settings(data: Path | None, options: ServeOptions) -> Settings:
    return Settings(
        data=data_dir(data),
        api=address(options.api) if options.api is not None else Address(API_HOST, API_PORT),
        gateway=address(options.gateway)
        if options.gateway is not None
        else Address(GATEWAY_HOST, GATEWAY_PORT),
        domain=domain(options.domain) if options.domain is not None else "localhost",
        engine=options.engine or "auto",
        machines=read(Path(options.machines)) if options.machines is not None else GRADIENT,
    )


def serve(wanted: Settings) -> int:
    """Run the daemon until a signal."""
    from hale.daemon import run  # noqa: PLC0415 # the server's half of hale: other commands do without it

    return run(wanted)
