"""Manifests as text: whatever reads it, reads the same."""

import io
import json
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hale.kubernetes.manifests import render
from hale.kubernetes.written import json_list, yaml
from tests.kubernetes.cluster import given as given_spec
from tests.kubernetes.test_schemas import RENDERED, cluster, read

WORDS = "yes No ON y true null ~ 0x1F 010 0o7 1_000 1e3 1:30 .inf 12 -1 1.5 2026-11-28 key a,b"
MARKS = "- # a: * & ! % @ ` = << ? --- ... {a [a a] *a &a !a %a @a `a /x / a@b web:1 http://a:8000/b?c=d"
LINES = ["a\n", "\na", "a\n\nb\n", " a\nb\n", "a \nb\n", "a\n\n", "a\rb\n", "a\tb", "\ta\nb\n"]
RARE = ["", " ", "- a", "a: b", "a #b", "'", '"', "\\", "ä", "\u2028", "\x85", "\ufeff", "😀", "\x7f", "\0"]
TRICKY = [*WORDS.split(), *MARKS.split(), *LINES, *RARE]


def by_yaml_1_1(text: str) -> Any:
    """As kubectl's ancestors read it: `yes` is a boolean, `010` a number."""
    return list(pyyaml.safe_load_all(text))


def by_yaml_1_2(text: str) -> Any:
    return list(YAML(typ="safe", pure=True).load_all(io.StringIO(text)))


@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_string_stays_a_string(text: str, ascii_only: bool) -> None:
    document = {"kind": text, "list": [text, {"inner": text}], text or "key": {"x": [text]}}
    written = yaml([document], ascii_only=ascii_only)
    assert by_yaml_1_1(written) == by_yaml_1_2(written) == [document]
    assert written.isascii() or not ascii_only
    assert not set("\x7f\x85\u2028\ufeff") & set(written)


strings = st.text(st.characters(exclude_categories=("Cs",)), max_size=20) | st.sampled_from(TRICKY)
documents = st.dictionaries(
    strings,
    st.recursive(
        strings | st.booleans() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
        max_leaves=10,
    ),
    max_size=4,
)


@given(st.lists(documents, max_size=3), st.booleans())
@settings(deadline=None)
def test_what_is_read_is_what_was_written(objects: list[dict[str, Any]], ascii_only: bool) -> None:
    written = yaml(objects, ascii_only=ascii_only)
    assert [each or {} for each in by_yaml_1_1(written)] == objects
    assert json.loads(json_list(objects, ascii_only=ascii_only))["items"] == objects


@pytest.mark.parametrize("name", RENDERED)
def test_yaml_and_json_are_the_same(name: str) -> None:
    objects = render(read(name), cluster("ingress")).objects
    listed = json.loads(json_list(objects))
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert by_yaml_1_1(yaml(objects)) == by_yaml_1_2(yaml(objects)) == listed["items"] == list(objects)


def test_a_name_reaches_the_annotation_whole() -> None:
    name = "yes: 😀 #1"
    (found, *_) = by_yaml_1_1(yaml(given_spec({"name": name}).objects))
    assert found["metadata"]["annotations"]["hale/name"] == name


def test_a_script_can_be_read() -> None:
    assert yaml([{"a": ["x\n  y\n\nz\n"]}]) == "---\na:\n- |\n  x\n    y\n\n  z\n"
