"""Why a container could not be started: what runtimes say, in words that help. Pure."""

import re

_CONF = "/etc/containers/containers.conf"
_TABLE = (
    (
        r"hybrid mode not supported",
        "crun does not run with this machine's cgroups; `sudo apt install runc`, and put"
        f' `runtime = "runc"` under [engine] in {_CONF}',
    ),
    (
        r"setrlimit|setting rlimit",
        "the engine's default limits are more than this machine allows; put"
        f' `default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]` under [containers] in {_CONF}',
    ),
    (
        r"executable file .*not found|no such file or directory.*OCI runtime attempted",
        "command not found in the image",
    ),
    (
        r"exec.*: no such file or directory",
        "command not found in the image, or what its #! line names",
    ),
    (
        r"exec format error",
        "not a program for this machine: another architecture, or a script without a #! line",
    ),
    (
        r"exec.*permission denied|OCI permission denied",
        "the command is not executable in the image, or its user may not run it",
    ),
    (
        r"no command or entrypoint|[Nn]o command specified",
        "there is nothing to run: name a `command`, the image has none",
    ),
    (
        r"could not select device driver|unresolvable CDI",
        "the engine has none of the GPUs that the machine type asks for",
    ),
)
"""Looked for in this order."""


def explained(said: str) -> str:
    """The runtime's words, or ours where we have better ones."""
    for pattern, words in _TABLE:
        if re.search(pattern, said):
            return words
    return " ".join(said.split())[:500]


def without_init(said: str) -> bool:
    """Whether it failed since the engine has no init binary."""
    return "init" in said and any(words in said for words in ("container-init", "catatonit", "docker-init"))
