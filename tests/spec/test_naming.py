"""Slugs are DNS labels that never collide; names are printable text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.errors import RefusedError
from hale.spec.naming import check_name, slug

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", "web"),
        ("gradient-ai/serge", "gradient-ai-serge"),
        ("my cool deployment", "my-cool-deployment"),
        ("../../etc/passwd", "etc-passwd"),
        ("--A__b..C--", "a-b-c"),
        ("x" * 60, "x" * 40),
        ("x" * 39 + "-yz", "x" * 39),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name, ()) == expected


def test_a_name_of_which_nothing_is_left_is_a_hash() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", slug("日本", ()))
    assert slug("日本", ()) != slug("中国", ())


def test_a_second_of_the_same_slug_gets_a_hash_and_a_third_another() -> None:
    taken: list[str] = []
    for _ in range(4):
        taken.append(slug("my app", taken))
    assert taken[0] == "my-app"
    assert all(re.fullmatch(r"my-app-[0-9a-f]{8}", each) for each in taken[1:])
    assert len(set(taken)) == 4


def test_what_looks_like_an_id_gets_a_hash() -> None:
    assert slug("d" + "0" * 32, ()).startswith("d" + "0" * 30 + "-")


@given(st.text(max_size=300), st.sets(st.text(alphabet="ab-", max_size=3)))
def test_a_slug_is_a_free_label_whatever_the_name(name: str, taken: set[str]) -> None:
    found = slug(name, taken)
    assert LABEL.fullmatch(found)
    assert len(found) <= 40
    assert found not in taken
    assert not re.fullmatch(r"d[0-9a-f]{32}", found)


@pytest.mark.parametrize("name", ["a", "my cool deployment", "日本", "../x", "x" * 255])
def test_names_that_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0", "\u202ex", "\ud800"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="cannot use this name: it must be"):
        check_name(name)
