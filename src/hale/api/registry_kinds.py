"""What a connection to a registry has to look like, by the kind of provider. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hale.core.image import Registry, has_host, server

OTHER = "other"
"""The kind of those that were made without one; nothing more is known of it."""

_URL = re.compile(r"(?:https?://)?(?P<host>[^/?#@\s]+)(?:/[^?#@\s]*)?", re.IGNORECASE)
_HOST = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{0,255}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class _Rules:
    """`namespace` says what a namespace of the provider's is; "" where there need not be any."""

    hosts: re.Pattern[str]
    shown: str
    namespace: str = ""


_KINDS: Mapping[str, _Rules] = {
    "dockerhub": _Rules(re.compile(r"docker\.io"), "docker.io", "the user or organization"),
    "ghcr": _Rules(re.compile(r"ghcr\.io"), "ghcr.io", "the user or organization"),
    "gcr": _Rules(
        re.compile(r"(?:[a-z]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev"),
        "gcr.io, <region>.gcr.io or <region>-docker.pkg.dev",
        "the project",
    ),
    "digitalocean": _Rules(
        re.compile(r"registry\.digitalocean\.com"), "registry.digitalocean.com", "the name of the registry"
    ),
    "azure": _Rules(re.compile(r"[a-z0-9-]+\.azurecr\.(?:io|cn|us)"), "<name>.azurecr.io"),
}


def problems(registry: Registry) -> list[str]:
    """Everything that keeps it from being a connection, each with its field; no value that may be secret."""
    found = [*_name(registry.name), *_user(registry.username), *_namespace(registry)]
    return found + (list(_url(registry.url)) or list(_host(registry)))


def _name(name: str) -> Iterator[str]:
    if not name.isprintable() or name.strip() != name or not name:
        yield "name: must be printable text without spaces around it"


def _user(username: str) -> Iterator[str]:
    if ":" in username or _CONTROL.search(username):
        yield "username: must not contain a colon or control characters: a registry could not tell it apart"


def _namespace(registry: Registry) -> Iterator[str]:
    rules = _KINDS.get(registry.kind or OTHER)
    if not _NAMESPACE.fullmatch(registry.namespace):
        yield "namespace: must be letters, digits and . _ - : /, 255 at most"
    elif rules and rules.namespace and not registry.namespace.strip("/"):
        yield f"namespace: must be {rules.namespace} that the images belong to, for kind {registry.kind}"


def _url(url: str) -> Iterator[str]:
    """What is no address of a registry, whatever its kind."""
    if "@" in url:
        yield "url: must not contain a user or password: they have fields of their own"
        return
    whole = _URL.fullmatch(url)
    host = _HOST.fullmatch(whole["host"]) if whole else None
    if host is None or not 0 < int(host["port"] or 443) < 65536:
        yield "url: must be a host (and port), with http:// or https:// before it if you like"


def _host(registry: Registry) -> Iterator[str]:
    host, rules = server(registry), _KINDS.get(registry.kind or OTHER)
    if rules is not None and not rules.hosts.fullmatch(host):
        yield f"url: must be {rules.shown} for kind {registry.kind}, and is {host[:100]}"
    elif not has_host(f"{host}/image"):
        yield "url: must have a dot, a port, or be localhost: a name of an image could not say it otherwise"
