"""What an engine says when an image can't be pulled, as PreparationErrors. Pure.

Docker, containerd and Podman (containers/image) each have their own words; what is looked for are the parts
that come from the registry, the network and the kernel, which they share. Their words are repeated only where
they say more than ours, and never with what a URL may carry.
"""

import re
from dataclasses import dataclass

from hale.core.image import ImageName
from hale.errors import PreparationError

NOT_FOUND = "image.not_found"
TAG_NOT_FOUND = "image.tag_not_found"
UNREACHABLE = "image.unreachable"
DENIED = "image.denied"
UNTRUSTED = "image.untrusted"


_URL = re.compile(r'(\w+ )?"?\w+://[^\s"]+"?:?')
"""With what was to be done there: `Get "https://...":`."""

_ALLOW = {
    "podman": r"""`printf '\n[[registry]]\nlocation = "{host}"\ninsecure = true\n' |"""
    " sudo tee -a /etc/containers/registries.conf && sudo systemctl restart podman`",
    "docker": '`"insecure-registries": ["{host}"]` in /etc/docker/daemon.json,'
    " then `sudo systemctl reload docker`",
}
"""How an engine is told that a registry has no TLS; Podman's service reads it when it starts."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of failure. Words may name {host}, {repository}, {tag}, {engine}, {said} and {allow}."""

    event: str
    pattern: re.Pattern[str]
    why: str
    hint: str
    fatal: bool


def _kind(event: str, pattern: str, why: str, hint: str, *, fatal: bool = True) -> _Kind:
    return _Kind(event, re.compile(pattern, re.IGNORECASE), why, hint, fatal)


# The first that fits; a network's failure before a refusal, since proxies and tokens fail in words of both.
_KINDS = (
    _kind(
        "image.disk_full",
        r"no space left on device|disk quota exceeded|not enough (disk )?space",
        "no space is left where {engine} keeps images",
        "make room there: `{engine} image prune --all` removes the images that nothing uses",
        fatal=False,
    ),
    _kind(
        "image.wrong_architecture",
        r"no image found in (image index|manifest list) for|no matching manifest for|no match for platform"
        r"|does not (match|provide) the specified platform",
        "there is none for this machine's architecture: {said}",
        "build it for this machine's architecture too and push it",
    ),
    _kind(
        UNTRUSTED,
        r"server gave HTTP response to HTTPS client|first record does not look like a TLS handshake",
        "{host} speaks no TLS, and {engine} is not told to trust it without",
        "give the registry TLS, or allow it: {allow}",
    ),
    _kind(
        UNTRUSTED,
        r"x509: |failed to verify certificate|certificate signed by unknown|remote error: tls: ",
        "{engine} does not trust the certificate of {host}: {said}",
        "put the certificate of who signed it into /etc/docker/certs.d/{host}/ca.crt, where Podman looks too",
    ),
    _kind(
        "image.failed",
        r"toomanyrequests|\b429 Too Many|pull rate limit",
        "{host} takes no more requests for now",
        "wait, or pull with a connection: name one of `hale registry list` in containerRegistry",
        fatal=False,
    ),
    _kind(
        UNREACHABLE,
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|server misbehaving|TLS handshake timeout|deadline exceeded|Client\.Timeout|connection reset"
        r"|broken pipe|proxyconnect|temporary failure in name resolution|: (unexpected )?EOF$"
        r"|\b50[0234] [A-Z][a-z]+|status(?: code)?(?: from registry)?:? 5\d\d",
        "{host} can't be reached: {said}",
        "is the registry up, and its name right? `curl -i https://{host}/v2/` asks it from here",
        fatal=False,
    ),
    _kind(
        DENIED,
        r"\bunauthorized\b|authentication required|access (to the resource )?(is )?denied|\bdenied: "
        r"|authorization failed|no basic auth credentials|\b40[13] (Unauthorized|Forbidden)"
        r"|invalid username/password|incorrect username or password|\bforbidden\b",
        "{host} denies access to {repository}",
        "name a connection that may pull it in containerRegistry (`hale registry add`), or check its username"
        " and password; some registries say the same of an image that does not exist",
    ),
    _kind(
        NOT_FOUND,
        r"name unknown|NAME_UNKNOWN|repository name not known|repository \S+ not found|name invalid"
        r"|invalid reference format",
        "{host} has no {repository}",
        "check the image's name, or push the image",
    ),
    _kind(
        TAG_NOT_FOUND,
        r"manifest unknown|MANIFEST_UNKNOWN|manifest for \S+ not found|: not found$|\b404 Not Found",
        "{host} has no {repository} with {tag}",
        "push it, or name one that is there",
    ),
)

_FAILED = _kind(
    "image.failed", "", "{said}", "what {engine} says to `{engine} pull` of the same may help", fatal=False
)


def pull_error(image: str, name: ImageName, said: str, *, engine: str) -> PreparationError:
    """Why `image` can't be pulled, out of what the engine (`podman`, `docker`) said of its whole `name`."""
    return _error(f"pull {image}", name, said, engine)


def log_in_error(server: str, said: str, *, engine: str) -> PreparationError:
    """Why nobody can log in to the server."""
    doing = f"log in to {server}"
    if _matching(said).event == DENIED:
        return PreparationError(
            f"cannot {doing}: wrong username or password",
            event=DENIED,
            fatal=True,
            hint="check both at the registry: some want a token for a password",
        )
    return _error(doing, ImageName(server, ""), said, engine)


def not_found(image: str, name: ImageName) -> PreparationError:
    """The registry has no such image, whatever the tag."""
    return _error(f"pull {image}", name, "name unknown", "")


def wrong_architecture(image: str, of_image: str, of_machine: str) -> PreparationError:
    return PreparationError(
        f"cannot run {image}: it is for {of_image}, and this machine is {of_machine}",
        event="image.wrong_architecture",
        fatal=True,
        hint=f"build it for {of_machine} and push it, or install an emulator: apt install qemu-user-static",
    )


def silent(image: str, name: ImageName, seconds: float) -> PreparationError:
    """Nothing was heard of the pull for that long."""
    return _error(f"pull {image}", name, f"nothing came for {seconds:g} s: i/o timeout", "")


def said_denied(said: str) -> bool:
    """Whether nobody was let in at all; being refused just one image is another matter."""
    unnamed = re.search(r"unauthorized|authentication|username", said, re.IGNORECASE)
    return _matching(said).event == DENIED and unnamed is not None


def said_plain_or_untrusted(said: str) -> bool:
    """Whether the registry's TLS, or its lack of it, was what stood in the way."""
    return _matching(said).event == UNTRUSTED


def _matching(said: str) -> _Kind:
    return next((kind for kind in _KINDS if kind.pattern.search(said.strip())), _FAILED)


def _error(doing: str, name: ImageName, said: str, engine: str) -> PreparationError:
    kind = _matching(said)
    words = {
        "host": name.host,
        "repository": name.repository,
        "tag": f"the digest {name.digest}" if name.digest else f"the tag {name.tag}",
        "engine": engine or "the engine",
        "said": _essence(said),
        "allow": _ALLOW.get(engine, "").format(host=name.host),
    }
    why, hint = kind.why.format(**words), kind.hint.format(**words)
    return PreparationError(f"cannot {doing}: {why}", event=kind.event, fatal=kind.fatal, hint=hint)


def _essence(said: str) -> str:
    """The end of it, where the cause is, without URLs; at most 200 characters of one line."""
    line = " ".join(_URL.sub(": ", said.replace('\\"', '"')).split())
    parts = [part for each in line.split(": ") if (part := each.strip(' ":'))]
    # A cause of a word or two (`EOF`, `i/o timeout`) says too little alone.
    short = len(parts) > 1 and len(parts[-1]) < len("connection refused")
    return ": ".join(parts[-2:] if short else parts[-1:])[:200].rstrip(" .") or "it did not say why"
