"""Whole screens at 80 columns, compared with the files beside this one; SCREENS=rewrite writes them anew."""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cli import examples as e
from rich.console import Console, RenderableType

from hale.cli import answers, live, screens
from hale.cli.follow import Snapshot
from hale.core.words import ending

FOLDER = Path(__file__).parent / "screens"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def drawn(renderable: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def same(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    if os.environ.get("SCREENS") == "rewrite":
        path.write_text(text)
    assert text == path.read_text()


DEPLOYMENT = answers.deployment(e.deployment())
HEALTH = answers.health(e.health(e.ready_replica(), e.starting_replica(), e.backoff_replica()))
EVENTS = tuple(
    answers.event(each)
    for each in [
        e.event(1, 60, "revision 3 applied", None),
        e.event(2, 58, "started"),
        e.event(3, 57, "ready 1.2 s after its start, gets traffic"),
        e.event(4, 6, 'exited with code 1 after 2 s: "' + "no such file " * 8, e.R3, "warning"),
    ]
)


def many(count: int) -> answers.Health:
    """`count` ready replicas, with one that starts and one that waits among them."""
    ready = [
        e.replica(str(UUID(int=(i + 1) * 7919 << 100)), "ready", 500, checks={"readiness": e.passing()})
        for i in range(count)
    ]
    half = count // 2
    return answers.health(e.health(*ready[:half], e.starting_replica(), e.backoff_replica(), *ready[half:]))


def test_get_shows_each_replica_with_its_checks_and_what_comes_next() -> None:
    same("get", drawn(screens.deployment_screen(DEPLOYMENT, HEALTH, e.NOW)))


def test_get_shows_why_a_revision_failed() -> None:
    failed = answers.deployment(
        e.deployment(
            spec={"dtHealthy": None, "error": "revision 3 is not healthy after 10 min without progress"}
        )
    )
    same("get-failed", drawn(screens.deployment_screen(failed, answers.health(e.health()), e.NOW)))


def test_list_is_a_table() -> None:
    other = answers.deployment(e.deployment(id="b", name="Ä long name " * 8, projectId="p2"))
    rows = [(DEPLOYMENT, HEALTH), (other, HEALTH)]
    same("list", drawn(screens.deployments(rows, {"p1": "default", "p2": "other"}, e.NOW, 80)))


def test_history_says_what_became_of_each_revision() -> None:
    base = {"applied_at": e.NOW - 50, "created_at": e.NOW - 60, "replicas": 2, "runs": "uvicorn app:app"}
    rows = [
        answers.Revision(3, "s3", healthy_at=None, error="", current=True, **base),
        answers.Revision(2, "s2", healthy_at=None, error="not healthy after 10 min", current=False, **base),
        answers.Revision(1, "s1", healthy_at=e.NOW - 55, error="", current=False, **base),
    ]
    same("history", drawn(screens.history(rows, e.NOW)))


def test_live_view_of_three_replicas() -> None:
    snapshot = Snapshot(DEPLOYMENT, HEALTH, EVENTS)
    same("live", drawn(live.screen(snapshot, "Ctrl-C stops it.", e.NOW, 80, 23)))


def test_live_view_of_fifty_replicas_shows_those_that_matter_and_counts_the_others() -> None:
    deployment = replace(DEPLOYMENT, name="a very long name " * 12, wanted=50)
    snapshot = Snapshot(deployment, many(48), EVENTS * 4)
    same("live-50", drawn(live.screen(snapshot, "Ctrl-C stops it.", e.NOW, 80, 23)))


PREPARING = answers.deployment(e.deployment(spec={"dtHealthy": None, "externalApplied": None}))
REFUSED = replace(PREPARING, error=e.DENIED)

PREPARATIONS = [
    pytest.param("pulling", PREPARING, e.preparation(), id="pulling"),
    pytest.param(
        "filling",
        PREPARING,
        e.preparation(
            "filling volume falcon",
            progress={"done": 12, "total": 40, "bytesDone": 1_200_000_000, "bytesTotal": 3_400_000_000},
        ),
        id="filling",
    ),
    pytest.param("pull-failed", PREPARING, e.waiting(), id="failed, tried again"),
    pytest.param("pull-refused", REFUSED, e.waiting(), id="refused, the error is told once"),
]


@pytest.mark.parametrize(("name", "deployment", "preparation"), PREPARATIONS)
def test_live_view_shows_how_far_a_preparation_is_over_the_replicas_that_serve(
    name: str, deployment: answers.Deployment, preparation: Any
) -> None:
    health = answers.health(e.health(e.ready_replica() | {"revision": 2}, preparation=preparation))
    snapshot = Snapshot(deployment, health, EVENTS[:1])
    same(f"live-{name}", drawn(live.screen(snapshot, "Ctrl-C stops it.", e.NOW, 80, 23)))


@pytest.mark.parametrize(("name", "deployment", "preparation"), PREPARATIONS)
def test_get_shows_how_far_a_preparation_is(
    name: str, deployment: answers.Deployment, preparation: Any
) -> None:
    health = answers.health(e.health(preparation=preparation))
    same(f"get-{name}", drawn(screens.deployment_screen(deployment, health, e.NOW)))


def test_get_tells_a_lack_of_memory_an_exit_and_a_signal_apart() -> None:
    ends = {e.R1: {"out_of_memory": True}, e.R2: {}, e.R3: {}}
    codes = {e.R1: 137, e.R2: 3, e.R3: -9}
    replicas = [
        e.replica(
            each, "ready", 60, restarts=1, lastRestart=[e.link("exit", 61, ending(codes[each], "2 s", **how))]
        )
        for each, how in ends.items()
    ]
    same("get-ends", drawn(screens.deployment_screen(DEPLOYMENT, answers.health(e.health(*replicas)), e.NOW)))


def test_history_has_the_beginning_of_a_long_error_and_no_hint() -> None:
    why = "cannot pull registry.example.org/web:9: registry.example.org has no web with the tag 9"
    base = {"applied_at": None, "created_at": e.NOW - 60, "replicas": 2, "runs": "", "healthy_at": None}
    rows = [
        answers.Revision(2, "s2", error=f"{why} (hint: push it)", current=True, **base),
        answers.Revision(1, "s1", error="no room (hint: make room)", current=False, **base),
    ]
    shown = drawn(screens.history(rows, e.NOW))
    assert "failed: cannot pull" in shown
    assert "registry.example.org has no w…" in shown
    assert "failed: no room " in shown
    assert "hint" not in shown


def test_history_shows_images_with_what_their_names_stood_for() -> None:
    base = {"applied_at": e.NOW - 50, "created_at": e.NOW - 60, "replicas": 2, "error": ""}
    digest = "registry.example.org/web@sha256:" + "3f9a6c21b0d4" + "0" * 52
    rows = [
        answers.Revision(
            3, "s3", healthy_at=None, current=True, runs="web:2", image="web:2", **base | {"applied_at": None}
        ),
        answers.Revision(
            2,
            "s2",
            healthy_at=e.NOW - 9,
            current=False,
            runs="serve it",
            image="web:1",
            digest=digest,
            **base,
        ),
        answers.Revision(1, "s1", healthy_at=e.NOW - 55, current=False, runs="uvicorn app:app", **base),
    ]
    same("history-images", drawn(screens.history(rows, e.NOW)))


def test_registries_are_a_table() -> None:
    rows = [e.registry(), e.registry("hub", url="docker.io", namespace="", kind="dockerhub")]
    same("registries", drawn(screens.registries([answers.registry(each) for each in rows], e.NOW)))


def test_secrets_are_a_table_without_values() -> None:
    rows = [e.secret("DB_PASSWORD", used=True), e.secret("API_KEY", changed=60)]
    same("secrets", drawn(screens.secrets([answers.secret(each) for each in rows], e.NOW)))


@pytest.mark.parametrize("preparation", [e.preparation(), e.waiting()])
@pytest.mark.parametrize(("width", "height"), [(80, 23), (40, 12), (20, 5), (1, 1)])
def test_a_preparation_fits_every_terminal(preparation: Any, width: int, height: int) -> None:
    health = answers.health(e.health(e.ready_replica(), preparation=preparation))
    lines = drawn(
        live.screen(Snapshot(PREPARING, health, EVENTS), "x", e.NOW, width, height), width
    ).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("replicas", [0, 1, 3, 8, 50])
@pytest.mark.parametrize("events", [0, 1, 5, 50])
@pytest.mark.parametrize(("width", "height"), [(80, 23), (40, 12), (200, 60), (20, 5), (1, 1)])
def test_live_view_fits_every_terminal(replicas: int, events: int, width: int, height: int) -> None:
    snapshot = Snapshot(replace(DEPLOYMENT, error="it broke"), many(replicas), EVENTS[-1:] * events)
    lines = drawn(live.screen(snapshot, "Ctrl-C stops it.", e.NOW, width, height), width).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_hostile_answers_are_drawn_as_text() -> None:
    body = "[bold red]\x1b[2J\x1b]0;owned\x07[/] \u202e:smile:"
    checks = {"readiness": e.check("failing", 1, 3, e.result(False, 1, 500, 2.0, body))}
    health = answers.health(e.health(e.replica(e.R1, "unready", 5, checks=checks)))
    text = drawn(screens.deployment_screen(replace(DEPLOYMENT, name=body), health, e.NOW), 200)
    text += drawn(live.screen(Snapshot(DEPLOYMENT, health), "", e.NOW, 200, 23), 200)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold red]\\x1b[2J\\x1b]0;owned\\x07[/] \\u202e:smile:") == 3


@pytest.mark.parametrize(("verdict", "colour"), [("passing", "yellow"), ("failing", "red")])
def test_a_failed_answer_is_never_green(verdict: str, colour: str) -> None:
    failed = e.check(verdict, 2, 3, e.result(False, 1, 503, 4.2, "Readiness check failed."))
    health = answers.health(e.health(e.replica(e.R1, "ready", 60, checks={"readiness": failed})))
    lines = live.screen(Snapshot(DEPLOYMENT, health, (), ()), "", e.NOW, 80, 20).renderables
    (line,) = [each for each in lines if "503" in str(each)]
    assert {str(span.style) for span in line.spans if "503" in line.plain[span.start : span.end]} == {colour}
