"""What runtimes say when a container can't be started, and what hale makes of it."""

import pytest

from hale.local.engines.container_exec import reason
from hale.local.engines.container_troubles import explained, without_init


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "crun: cgroups in hybrid mode not supported: OCI runtime error",
            'runtime = "runc"',
        ),
        ("runc: error setting rlimit type 7: operation not permitted: OCI runtime error", "default_ulimits"),
        ("crun: setrlimit `RLIMIT_NPROC`: Operation not permitted: OCI permission denied", "default_ulimits"),
        (
            'runc: runc create failed: unable to start container process: exec: "nope": executable file not'
            " found in $PATH: OCI runtime attempted to invoke a command that was not found",
            "command not found in the image",
        ),
        (
            "crun: executable file `nope` not found in $PATH: No such file or directory: OCI runtime"
            " attempted to invoke a command that was not found",
            "command not found in the image",
        ),
        (
            'OCI runtime create failed: exec: "/app/run": stat /app/run: no such file or directory: unknown',
            "command not found in the image, or what its #! line names",
        ),
        ("exec /bin/app: exec format error", "not a program for this machine"),
        ('exec: "/etc/passwd": permission denied: OCI permission denied', "not executable in the image"),
        ("no command or entrypoint provided, and no CMD or ENTRYPOINT from image", "name a `command`"),
        ("No command specified", "name a `command`"),
    ],
)
def test_a_known_trouble_is_told_with_what_to_do(said: str, words: str) -> None:
    assert words in explained(said)


def test_an_unknown_trouble_is_told_as_it_is() -> None:
    assert explained(" no space\n left on device ") == "no space left on device"


@pytest.mark.parametrize(
    ("said", "lacks_one"),
    [
        (
            "container-init binary not found on the host: stat /usr/libexec/podman/catatonit: no such file",
            True,
        ),
        ('exec: "docker-init": executable file not found in $PATH', True),
        ("executable file `init` not found", False),
    ],
)
def test_an_engine_without_an_init_is_found_out(said: str, lacks_one: bool) -> None:
    assert without_init(said) is lacks_one


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('exec: "x": executable file not found in $PATH: OCI runtime error', "not found in the container"),
        ("open x: permission denied: OCI permission denied", "permission denied"),
        ("exec /x: exec format error", "it is no program for this machine"),
        ("Error: something else: OCI runtime error", "Error: something else: OCI runtime error"),
    ],
)
def test_why_a_command_could_not_be_begun(said: str, words: str) -> None:
    assert reason(said, "x") == words
