"""When an image is pulled, with which credentials, and when what is here will do."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from hale.clock import Clock
from hale.core.deployment import Pull, Template
from hale.core.image import Credentials, Progress, Registry
from hale.errors import PreparationError
from hale.local.images import Images, unheard
from hale.memory.engine import MemoryEngine
from hale.memory.store import MemoryStore

NAME, PINNED = "reg.test/web:2", "reg.test/web@sha256:a"
OLD = "reg.test/web@sha256:old"
OURS = Registry("c1", "ours", "https://reg.test", "", "ada", "s3cret", 1.0, 1.0)


class Engine(MemoryEngine):
    """Remembers with which credentials it was to pull."""

    def __init__(self) -> None:
        super().__init__(Clock.start())
        self.shown: list[Credentials | None] = []

    async def pull(
        self, image: str, credentials: Credentials | None, tell: Callable[[Progress], None]
    ) -> str:
        self.shown.append(credentials)
        return await super().pull(image, credentials, tell)


class Store(MemoryStore):
    async def registries(self) -> Sequence[Registry]:
        return [replace(OURS, id="c2", name="theirs", url="https://other.test"), OURS]


def failure(event: str) -> PreparationError:
    return PreparationError(f"cannot pull it: {event}", event=event, fatal=False)


def template(image: str = NAME, pull: Pull = Pull.REVISION, registry: str | None = None) -> Template:
    return Template("key", ("serve",), image=image, pull=pull, registry=registry)


def engine_with(outcome: str, here: bool, image: str = NAME) -> Engine:
    """The registry's answer is `outcome` (`found`, or an event); with `here` the name stands for OLD here."""
    engine = Engine()
    engine.registry[image] = PINNED if outcome == "found" else failure(outcome)
    if here:
        engine.images = {image: OLD, OLD: OLD}
    return engine


@pytest.mark.parametrize(
    ("image", "pull", "outcome", "here", "expected"),
    [
        (NAME, Pull.REVISION, "found", False, PINNED),
        (NAME, Pull.REVISION, "found", True, PINNED),
        (NAME, Pull.ALWAYS, "found", True, PINNED),
        (NAME, Pull.NEVER, "found", True, OLD),
        (NAME, Pull.NEVER, "found", False, "image.not_found"),
        (NAME, Pull.REVISION, "image.unreachable", True, f"stale {OLD}"),
        (NAME, Pull.REVISION, "image.unreachable", False, "image.unreachable"),
        (NAME, Pull.ALWAYS, "image.unreachable", True, "image.unreachable"),
        (NAME, Pull.REVISION, "image.denied", True, "image.denied"),
        (NAME, Pull.REVISION, "image.not_found", True, "image.not_found"),
        (NAME, Pull.REVISION, "image.untrusted", True, "image.untrusted"),
        ("localhost/web:2", Pull.REVISION, "found", True, OLD),
        ("localhost/web:2", Pull.ALWAYS, "found", True, OLD),
        ("localhost/web:2", Pull.REVISION, "found", False, PINNED),
        ("localhost:5000/web:2", Pull.REVISION, "found", True, PINNED),
        ("web:2", Pull.REVISION, "found", True, PINNED),
        ("web:2", Pull.REVISION, "image.not_found", True, f"stale {OLD}"),
        ("web:2", Pull.REVISION, "image.denied", True, f"stale {OLD}"),
        ("team/web:2", Pull.REVISION, "image.denied", True, f"stale {OLD}"),
        ("web:2", Pull.REVISION, "image.denied", False, "image.denied"),
        ("web:2", Pull.ALWAYS, "image.denied", True, "image.denied"),
        ("web:2", Pull.REVISION, "image.wrong_architecture", True, "image.wrong_architecture"),
    ],
)
async def test_what_a_name_is_taken_for(
    image: str, pull: Pull, outcome: str, here: bool, expected: str
) -> None:
    engine = engine_with(outcome, here, image)
    try:
        fetched = await Images(engine, Store()).fetch(template(image, pull), None, unheard)
        found = f"stale {fetched.reference}" if fetched.stale else fetched.reference
    except PreparationError as error:
        found = error.event
    assert found == expected
    pulls = not (pull is Pull.NEVER or (image.startswith("localhost/") and here))
    assert engine.pulls == ([image] if pulls else [])


@pytest.mark.parametrize("pull", list(Pull))
async def test_what_a_revision_carries_is_taken_if_it_is_here_whatever_the_name_stands_for(
    pull: Pull,
) -> None:
    engine = engine_with("found", here=True)
    fetched = await Images(engine, Store()).fetch(template(pull=pull), OLD, unheard)
    assert (fetched.reference, fetched.stale, engine.pulls) == (OLD, None, [])


@pytest.mark.parametrize("pull", [Pull.REVISION, Pull.ALWAYS])
async def test_what_a_revision_carries_is_pulled_just_so_if_it_is_not_here(pull: Pull) -> None:
    engine = engine_with("found", here=False)
    fetched = await Images(engine, Store()).fetch(template(pull=pull), OLD, unheard)
    assert (fetched.reference, engine.pulls) == (OLD, [OLD])


async def test_what_a_revision_carries_and_never_pulls_has_to_be_here() -> None:
    engine = engine_with("found", here=False)
    with pytest.raises(PreparationError) as caught:
        await Images(engine, Store()).fetch(template(pull=Pull.NEVER), OLD, unheard)
    assert (caught.value.event, caught.value.fatal, engine.pulls) == ("image.not_found", True, [])


async def test_no_registry_is_asked_for_what_was_built_here_and_is_gone() -> None:
    engine, built = engine_with("found", here=False), "sha256:" + "ab" * 32
    with pytest.raises(PreparationError) as caught:
        await Images(engine, Store()).fetch(template(), built, unheard)
    assert (caught.value.event, caught.value.fatal, engine.pulls) == ("image.not_found", True, [])


async def test_a_registry_that_is_not_named_is_shown_no_password() -> None:
    engine = engine_with("found", here=False)
    await Images(engine, Store()).fetch(template(), None, unheard)
    assert engine.shown == [None]


@pytest.mark.parametrize("carried", [None, OLD])
async def test_the_named_registry_is_shown_its_credentials(carried: str | None) -> None:
    engine = engine_with("found", here=False)
    await Images(engine, Store()).fetch(template(registry="ours"), carried, unheard)
    assert engine.shown == [Credentials("reg.test", "ada", "s3cret")]


@pytest.mark.parametrize("carried", [None, OLD])
@pytest.mark.parametrize(
    ("registry", "who"),
    [("ours", "with registry connection ours (user ada)"), (None, "without containerRegistry")],
)
async def test_who_was_denied_is_told_and_no_password(
    carried: str | None, registry: str | None, who: str
) -> None:
    engine = engine_with("image.denied", here=False, image=carried or NAME)
    with pytest.raises(PreparationError) as caught:
        await Images(engine, Store()).fetch(template(registry=registry), carried, unheard)
    assert caught.value.message == f"cannot pull it: image.denied {who}"
    assert "s3cret" not in caught.value.one_line


async def test_other_failures_have_nothing_to_do_with_who_pulls() -> None:
    engine = engine_with("image.not_found", here=False)
    with pytest.raises(PreparationError) as caught:
        await Images(engine, Store()).fetch(template(registry="ours"), None, unheard)
    assert caught.value.message == "cannot pull it: image.not_found"


@pytest.mark.parametrize(
    ("registry", "image"),
    [
        pytest.param("gone", NAME, id="removed since"),
        pytest.param("theirs", NAME, id="another registry's"),
        pytest.param("ours", "web:2", id="Docker Hub's image"),
        pytest.param("ours", "reg.test.evil.test/web:2", id="a host that begins alike"),
    ],
)
@pytest.mark.parametrize("here", [False, True])
async def test_credentials_go_nowhere_else(registry: str, image: str, here: bool) -> None:
    engine = engine_with("found", here, image)
    with pytest.raises(PreparationError) as caught:
        await Images(engine, Store()).fetch(template(image, registry=registry), None, unheard)
    error = caught.value
    assert (error.event, error.fatal, engine.pulls) == ("image.denied", True, [])
    assert image in error.message
    assert registry in error.message
    assert error.hint
    assert "s3cret" not in error.one_line


async def test_the_newest_is_the_template_with_what_its_name_stands_for_now() -> None:
    engine = engine_with("found", here=True)
    always = replace(template(pull=Pull.ALWAYS), pinned=OLD)
    assert await Images(engine, Store()).newest(always) == replace(always, pinned=PINNED)


async def test_what_an_engine_leaves_aside_changes_nothing() -> None:
    engine = engine_with("found", here=False)
    engine.registry[NAME] = NAME
    always = template(pull=Pull.ALWAYS)
    assert await Images(engine, Store()).newest(always) == always
