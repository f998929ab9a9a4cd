"""`hale registry`: what the daemon is asked and what is said; passwords come from standard input alone."""

import json
from typing import Any

import pytest
from cli import examples as e
from cli.scripted import Hale, Script

pytestmark = pytest.mark.real_time

PATH = "/container-registries"
ADD = ["registry", "add", "corp", "--url", "registry.example.org:5000", "--username", "puller"]


@pytest.fixture
def corp(script: Script) -> Script:
    """A daemon with one registry, `corp`, and no deployments."""
    script.page("/deployments")
    script.page(PATH, e.registry())
    return script


def test_a_registry_is_added_with_the_password_of_a_pipe(script: Script, hale: Hale) -> None:
    script.page(PATH)
    script.on("POST", PATH, e.registry())
    done = hale(*ADD, "--namespace", "team", "--kind", "ghcr", stdin="s3cret \n")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "registry corp: added; `hale registry test corp` logs in to it\n"
    assert script.bodies("POST", PATH) == [
        {
            "name": "corp",
            "url": "registry.example.org:5000",
            "username": "puller",
            "namespace": "team",
            "kind": "ghcr",
            "password": "s3cret ",
        }
    ]


def test_adding_a_name_that_is_there_replaces_it_and_says_so(corp: Script, hale: Hale) -> None:
    corp.on("PUT", f"{PATH}/id-of-corp", e.registry())
    done = hale(*ADD, stdin="new")
    assert done.returncode == 0
    assert "there already, updated" in done.stderr
    (body,) = corp.bodies("PUT", f"{PATH}/id-of-corp")
    assert (body["password"], body["namespace"], body["kind"]) == ("new", "", "other")


@pytest.mark.parametrize("given", ["", "\n"])
def test_an_empty_password_is_refused_before_anything_is_asked(corp: Script, hale: Hale, given: str) -> None:
    done = hale(*ADD, stdin=given)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot add registry corp: the password is empty\nhint: ")
    assert corp.asked == []


def test_a_password_is_no_option(corp: Script, hale: Hale) -> None:
    done = hale(*ADD, "--password", "x")
    assert done.returncode == 2
    assert "--password" in done.stderr


def test_an_unknown_kind_is_wrong_usage(corp: Script, hale: Hale) -> None:
    assert hale(*ADD, "--kind", "quay", stdin="x").returncode == 2


def test_registries_are_listed(corp: Script, hale: Hale) -> None:
    heading, row = hale("registry", "list").stdout.splitlines()
    assert heading.split() == ["NAME", "URL", "USERNAME", "NAMESPACE", "KIND", "CHANGED"]
    assert row.split()[:5] == ["corp", "registry.example.org:5000", "puller", "team", "other"]
    assert json.loads(hale("registry", "list", "--json").stdout) == [e.registry()]


def test_no_registries_say_how_to_add_one(script: Script, hale: Hale) -> None:
    script.page(PATH)
    done = hale("registry", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "hale registry add" in done.stderr
    assert json.loads(hale("registry", "list", "--json").stdout) == []


def test_a_login_that_works_is_said(corp: Script, hale: Hale) -> None:
    corp.on("GET", f"{PATH}/id-of-corp/test-connection", {"success": True})
    done = hale("registry", "test", "corp")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "corp: logged in to registry.example.org:5000 as puller\n"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        pytest.param(
            "cannot log in to x: access denied (hint: ask for access)",
            "error: cannot log in to x: access denied\nhint: ask for access\n",
            id="a sentence of the daemon's",
        ),
        pytest.param(
            "unauthorized",
            "error: cannot log in to registry.example.org:5000 as puller: unauthorized\nhint: `hale",
            id="a bare reason",
        ),
    ],
)
def test_a_login_that_fails_is_exit_1_with_the_reason(corp: Script, hale: Hale, why: str, said: str) -> None:
    answer: Any = {"success": False, "error": why}
    corp.on("GET", f"{PATH}/id-of-corp/test-connection", answer)
    done = hale("registry", "test", "corp")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    document = hale("registry", "test", "corp", "--json")
    assert (document.returncode, json.loads(document.stdout)) == (1, answer)


def test_a_registry_is_removed_by_name(corp: Script, hale: Hale) -> None:
    corp.on("DELETE", f"{PATH}/id-of-corp", e.registry())
    done = hale("registry", "remove", "corp")
    assert (done.returncode, done.stderr) == (0, "registry corp: removed\n")
    assert corp.bodies("DELETE", f"{PATH}/id-of-corp") == [None]


def test_who_pulled_through_a_registry_that_is_removed_is_told(corp: Script, hale: Hale) -> None:
    named = ["corp", "id-of-corp", "another", None]
    corp.page(
        "/deployments",
        *[
            e.deployment(id=f"d{n}", name=f"web-{n}", spec={"data": {"containerRegistry": each}})
            for n, each in enumerate(named)
        ],
    )
    corp.on("DELETE", f"{PATH}/id-of-corp", e.registry())
    done = hale("registry", "remove", "corp")
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "registry corp: removed",
            "warning: web-0, web-1 pulled through it: what runs stays, and the next pull fails until there is"
            " one of that name again",
        ],
    )


@pytest.mark.parametrize("command", ["test", "remove"])
def test_an_unknown_registry_is_an_error_with_a_guess(corp: Script, hale: Hale, command: str) -> None:
    done = hale("registry", command, "crop")
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: cannot find registry crop: there is none of that name\nhint: did you mean corp?\n"
    )
