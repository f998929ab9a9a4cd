"""A repository elsewhere, and what git here is told of it. Pure.

All of it stands in the configuration of the repository here, for its user's is not read. A password comes by
the environment, and is for the host of its url alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from hale.core.volume import Source

SCHEMES = ("https", "http", "ssh", "git", "file")

_HEAD = "HEAD"
_REF = re.compile(r"\w[\w./+@-]*")
_USERNAME, _PASSWORD = "HALE_GIT_USERNAME", "HALE_GIT_PASSWORD"
_HELPER = (
    "!f() { test \"$1\" != get || printf 'username=%s\\npassword=%s\\n' "
    f'"${_USERNAME}" "${_PASSWORD}"; }}; f'
)
_SSH = (
    "ssh -oBatchMode=yes -oConnectTimeout=15 -oServerAliveInterval=15 -oServerAliveCountMax=4"
    " -oControlMaster=no -oControlPath=none"
)


_USER = re.compile(r"(?<=//)(?:[^/?#]*@|[^/?#@:]*:(?!\d*(?:[/?#]|$)).*@)")
"""Of a url; with a password, too, that should have been written with %2F, %3F or %23 and was not."""


def shown(source: Source) -> str:
    """Where its content comes from, for people."""
    url, mark, ref = _USER.sub("", source.url).partition("#")
    return url.partition("?")[0] + mark + ref


@dataclass(frozen=True, slots=True)
class Remote:
    """A url taken apart: `url` is without user and password, `ref` what is wanted of the repository."""

    url: str
    ref: str = _HEAD
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, source: Source) -> "Remote":
        """Its user is the source's access key where the url has none. ValueError if it is no url."""
        url, _, ref = source.url.partition("#")
        parts = urlsplit(url)
        _ = parts.port  # ValueError if it is none: most likely a password that is cut off
        user, at, host = parts.netloc.rpartition("@")
        if parts.scheme not in ("https", "http") or not at:
            return cls(url, ref or _HEAD, source.access_key_id or "", source.secret_access_key or "")
        username, _, password = map(unquote, user.partition(":"))
        return cls(urlunsplit(parts._replace(netloc=host)), ref or _HEAD, username, password)

    @property
    def known(self) -> bool:
        """Whether it is of a kind that git may be asked for."""
        scheme, colon, _ = self.url.partition("://")
        return self.url.startswith("/") or bool(colon and scheme in SCHEMES)

    @property
    def ref_possible(self) -> bool:
        """Whether there may be a branch, tag or commit of that name."""
        return _REF.fullmatch(self.ref) is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        parts = urlsplit(self.url)
        return (self.password, unquote(parts.password or ""), parts.query)

    @property
    def token(self) -> str:
        """A user without a password is one, most likely."""
        return "" if self.password else self.username

    def environment(self) -> Mapping[str, str]:
        """What git finds around it: nothing of this machine's, and nobody to ask."""
        return {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(SCHEMES),
            "GIT_SSH_COMMAND": _SSH,
            _USERNAME: self.username,
            _PASSWORD: self.password,
        }

    def configuration(self) -> str:
        """The whole configuration of a repository whose origin this is."""
        settings: dict[str, dict[str, str]] = {
            "core": {"repositoryformatversion": "0", "bare": "false", "hooksPath": "/dev/null"},
            "gc": {"auto": "0"},
            "maintenance": {"auto": "false"},
            "http": {"lowSpeedLimit": "1", "lowSpeedTime": "60"},
            "lfs": {"dialtimeout": "15", "tlstimeout": "15", "activitytimeout": "60"},
            "lfs.transfer": {"maxretries": "3"},
            "remote.origin": {"url": self.url},
        }
        if self.username or self.password:
            parts = urlsplit(self.url)
            settings[f"credential.{parts.scheme}://{parts.netloc}"] = {"helper": _HELPER}
        return "".join(_section(name, values) for name, values in settings.items())


def _section(name: str, values: Mapping[str, str]) -> str:
    kind, dot, which = name.partition(".")
    head = f"[{kind} {_quoted(which)}]" if dot else f"[{kind}]"
    return "\n".join([head, *(f"\t{key} = {_quoted(value)}" for key, value in values.items()), ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
