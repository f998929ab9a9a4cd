"""`hale secret`: whose secret it is, and a value that comes from standard input alone."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from cli import examples as e
from cli.scripted import Hale, Script

pytestmark = pytest.mark.real_time

DEFAULT = "/projects/default/secrets"
TEAM = "/teams/hale/secrets"


@pytest.fixture
def secrets(script: Script) -> Script:
    """A daemon with a secret in the project `default`, one in `other`, and none in the team."""
    script.page("/projects", {"id": "default", "name": "default"}, {"id": "p2", "name": "other"})
    script.page(DEFAULT, e.secret("DB_PASSWORD", used=True))
    script.page("/projects/p2/secrets", e.secret("KEY"))
    script.page(TEAM)
    script.page("/deployments")
    script.on("GET", "/auth/session", {"team": {"id": "hale"}})
    for path in (DEFAULT, "/projects/p2/secrets", TEAM):
        script.on("POST", path, e.secret("NEW"))
    return script


@pytest.mark.parametrize(
    ("options", "path", "said"),
    [
        pytest.param([], DEFAULT, "project default", id="the project that `hale up` uses"),
        pytest.param(["--project", "other"], "/projects/p2/secrets", "project other", id="a named project"),
        pytest.param(["--team"], TEAM, "the team", id="the team"),
    ],
)
def test_a_new_secret_goes_where_it_is_told(
    secrets: Script, hale: Hale, options: list[str], path: str, said: str
) -> None:
    done = hale("secret", "set", "NEW", *options, stdin="v\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"secret NEW of {said}: set\n")
    assert secrets.bodies("POST", path) == [{"name": "NEW", "value": "v"}]


def test_a_secret_that_is_there_is_changed_and_says_when_it_counts(secrets: Script, hale: Hale) -> None:
    secrets.on("PATCH", f"{DEFAULT}/DB_PASSWORD", e.secret("DB_PASSWORD"))
    done = hale("secret", "set", "DB_PASSWORD", stdin="v")
    assert done.returncode == 0
    assert "changed; deployments that use it get it when they are next applied" in done.stderr
    assert secrets.bodies("PATCH", f"{DEFAULT}/DB_PASSWORD") == [{"value": "v"}]
    assert secrets.bodies("POST", DEFAULT) == []


@pytest.mark.parametrize(
    ("given", "value"),
    [("a\n\n", "a\n"), (" a ", " a "), ("-----BEGIN\nx\n", "-----BEGIN\nx"), ("ä", "ä"), ("a\r\n", "a\r")],
)
def test_exactly_one_newline_is_cut(secrets: Script, hale: Hale, given: str, value: str) -> None:
    assert hale("secret", "set", "NEW", stdin=given).returncode == 0
    assert secrets.bodies("POST", DEFAULT) == [{"name": "NEW", "value": value}]


@pytest.mark.parametrize("given", ["", "\n"])
def test_an_empty_value_is_refused(secrets: Script, hale: Hale, given: str) -> None:
    done = hale("secret", "set", "NEW", stdin=given)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot set secret NEW: the value is empty\nhint: ")
    assert secrets.asked == []


def test_a_value_that_is_no_text_is_refused_and_not_shown(secrets: Script, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "hale.cli.main", "secret", "set", "NEW"]
    done = subprocess.run(command, input=b"hush\xff", env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: cannot set secret NEW: the value is not UTF-8\n")
    assert b"hush" not in done.stderr + done.stdout


def test_a_terminal_is_asked_and_shows_nothing_of_it(secrets: Script, env: dict[str, str]) -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "hale.cli.main", "secret", "set", "NEW"]
    # A session of its own, so that the terminal is its own too.
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=env, start_new_session=True)
    os.close(side)
    shown = b""
    try:
        while b"value: " not in shown:
            shown += os.read(main, 4096)
        os.write(main, b"hush hush\n")
        while b": set" not in shown:
            shown += os.read(main, 4096)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert b"hush" not in shown
    assert secrets.bodies("POST", DEFAULT) == [{"name": "NEW", "value": "hush hush"}]


@pytest.mark.parametrize("name", ["1X", "A-B", "../x", "A/B", "A" * 129, ""])
def test_a_name_that_is_none_is_refused_before_the_value_is_read(
    secrets: Script, hale: Hale, name: str
) -> None:
    done = hale("secret", "set", "--", name, stdin="v")
    assert done.returncode == 1
    assert "a name is a letter, then letters, digits and _" in done.stderr
    assert secrets.asked == []


def test_a_value_among_the_arguments_is_wrong_usage_and_not_shown(secrets: Script, hale: Hale) -> None:
    done = hale("secret", "set", "NEW", "hunter2", "--team", stdin="v")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the value is not an argument" in done.stderr
    assert "hunter2" not in done.stderr
    assert secrets.bodies("POST", TEAM) == []


def test_both_scopes_are_wrong_usage(secrets: Script, hale: Hale) -> None:
    for command in (["set", "X"], ["list"], ["remove", "X"]):
        done = hale("secret", *command, "--team", "--project", "other", stdin="v")
        assert (done.returncode, done.stdout) == (2, "")
        assert "one or the other" in done.stderr


def test_secrets_are_listed_by_name(secrets: Script, hale: Hale) -> None:
    heading, row = hale("secret", "list").stdout.splitlines()
    assert heading.split() == ["NAME", "USED", "CREATED", "CHANGED"]
    assert row.split()[:2] == ["DB_PASSWORD", "yes"]
    listed: Any = json.loads(hale("secret", "list", "--project", "other", "--json").stdout)
    assert listed == [e.secret("KEY")]


def test_no_secrets_say_of_whom(secrets: Script, hale: Hale) -> None:
    done = hale("secret", "list", "--team")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no secrets of the team: `hale secret set NAME --team` sets one\n"


def test_a_secret_is_removed(secrets: Script, hale: Hale) -> None:
    secrets.on("DELETE", f"{DEFAULT}/DB_PASSWORD", {"name": "DB_PASSWORD"})
    done = hale("secret", "remove", "DB_PASSWORD")
    assert (done.returncode, done.stderr) == (0, "secret DB_PASSWORD of project default: removed\n")


def using(name: str, project: str, **data: Any) -> Any:
    return e.deployment(id=name, name=name, projectId=project, spec={"data": data})


@pytest.mark.parametrize(
    ("options", "path", "told"),
    [
        pytest.param([], DEFAULT, "by-env, by-password, by-key", id="a project's"),
        pytest.param(["--team"], TEAM, "elsewhere", id="the team's, where no project's goes before it"),
        pytest.param(["--project", "other"], "/projects/p2/secrets", "", id="one that nobody uses"),
    ],
)
def test_who_used_a_secret_that_is_removed_is_told(
    secrets: Script, hale: Hale, options: list[str], path: str, told: str
) -> None:
    secrets.page(DEFAULT, e.secret("A", used=True))
    secrets.page(TEAM, e.secret("A", used=True))
    secrets.page("/projects/p2/secrets", e.secret("A") if "other" in options else e.secret("B"))
    secrets.page(
        "/deployments",
        using("by-env", "default", env=[{"name": "X", "value": "secret:A"}]),
        using("by-password", "default", basicAuthKey="secret:A"),
        using("by-key", "default", integrations=[{"type": "s3", "secretAccessKey": "secret:A"}]),
        using("another", "default", env=[{"name": "X", "value": "secret:AB"}, {"name": "Y", "value": "A"}]),
        using("elsewhere", "p2", env=[{"name": "X", "value": "secret:A"}]),
    )
    secrets.on("DELETE", f"{path}/A", {"name": "A"})
    done = hale("secret", "remove", "A", *options)
    _, *warning = done.stderr.splitlines()
    said = (
        f"warning: {told} used it: what runs keeps the value, and the next apply or rollback needs another"
        " secret of that name"
    )
    assert (done.returncode, warning) == (0, [said] if told else [])


def test_an_unknown_secret_is_an_error_with_a_guess(secrets: Script, hale: Hale) -> None:
    done = hale("secret", "remove", "DB_PASWORD")
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot find secret DB_PASWORD of project default: there is none of that name\n"
        "hint: did you mean DB_PASSWORD?\n"
    )


def test_an_unknown_project_is_an_error(secrets: Script, hale: Hale) -> None:
    done = hale("secret", "set", "NEW", "--project", "none", stdin="v")
    assert done.returncode == 1
    assert "cannot find project none" in done.stderr
