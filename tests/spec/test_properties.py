"""What holds for every spec, and for every text that is none."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hale.spec import load
from hale.spec.compile import gradient_part, template
from hale.spec.problems import SpecError
from hale.spec.schema import Spec
from hale.spec.unsupported import refusals
from tests.api.openapi import GRADIENT
from tests.api.openapi import problems as against

PRINTABLE = st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cc", "Cf", "Zs", "Cn"))
line = st.text(PRINTABLE, min_size=1, max_size=12)
word = st.text(string.ascii_letters, min_size=1, max_size=8)
port = st.integers(1, 65535)


def optional(required: dict[str, Any], **others: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=others)


seconds = st.integers(1, 1000) | st.floats(1, 1000)
timing = {
    "initialDelaySeconds": st.integers(0, 1000) | st.floats(0, 1000),
    "periodSeconds": seconds,
    "timeoutSeconds": seconds,
    "failureThreshold": st.integers(1, 1000),
}
header = st.fixed_dictionaries({"name": word, "value": st.text(string.printable[:95], max_size=9)})
path = line.map(lambda text: "/" + text)
http = optional({"path": path}, port=port, host=word, headers=st.lists(header, max_size=2), **timing)
run = optional({"exec": st.fixed_dictionaries({"command": st.lists(line, min_size=1, max_size=3)})}, **timing)
checks = optional({}, liveness=http | run, readiness=http | run, startup=http | run)
usage = {
    "metric": st.sampled_from(["cpu", "memory"]),
    "summary": st.just("average"),
    "value": st.integers(1, 100),
}
autoscaling = optional(
    {"maxReplicas": st.integers(1, 25), "metrics": st.lists(st.fixed_dictionaries(usage), max_size=2)},
    enabled=st.booleans(),
)
resources = optional(
    {"machineType": line, "ports": st.lists(port, min_size=1, max_size=3, unique=True)},
    replicas=st.integers(0, 10_000),
    autoscaling=autoscaling,
)
share = st.integers(1, 10_000) | st.integers(1, 100).map(lambda n: f"{n}%")
hale = optional(
    {},
    strategy=optional({}, maxSurge=share, maxUnavailable=share, progressDeadlineSeconds=st.floats(1, 1000)),
    drainSeconds=st.floats(0, 3600),
    gracePeriodSeconds=st.integers(0, 3600),
    eager=st.booleans(),
    workdir=path,
    pull=st.sampled_from(["revision", "always", "never"]),
)
named = {"name": line}
integration = (
    optional(
        {"type": st.just("git-lfs"), "url": word.map(lambda text: f"https://{text}"), **named}, path=line
    )
    | optional({"type": st.just("s3"), "url": word.map(lambda text: f"s3://{text}/"), **named}, path=line)
    | st.fixed_dictionaries({"type": st.just("volume"), **named})
)
configs = optional(
    {"name": line, "command": st.lists(line, min_size=1, max_size=3), "resources": resources},
    apiVersion=st.sampled_from(["v1", "v0alpha1", "latest"]),
    image=line,
    enabled=st.booleans(),
    env=st.lists(st.fixed_dictionaries({"name": word, "value": line}), max_size=3),
    region=line,
    basicAuthKey=line,
    containerRegistry=line,
    integrations=st.lists(integration, max_size=3),
    healthChecks=checks,
    hale=hale,
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(configs)
@settings(deadline=None)
def test_a_valid_spec_survives_every_way_round(config: dict[str, Any]) -> None:
    spec = load.from_body(config)
    document = spec.document()
    assert Spec.from_document(document).document() == document
    assert template(Spec.from_document(document)) == template(spec)
    assert [str(each) for each in refusals(Spec.from_document(document))] == [str(e) for e in refusals(spec)]
    assert against(gradient_part(spec), GRADIENT["spec"]) == []
    for kind in ("json", "yaml"):
        text = json.dumps(config, indent=1)
        assert load.load_text(text, format=kind, filename="x").document() == document


@given(configs, junk, st.data())
@settings(deadline=None)
def test_a_body_with_junk_in_it_is_read_or_refused(
    config: dict[str, Any], wrong: Any, data: st.DataObject
) -> None:
    at = config
    while True:
        name = data.draw(st.sampled_from([*sorted(at), "hale"]) if at else st.just("x"))
        if not isinstance(at.get(name), dict) or data.draw(st.booleans()):
            break
        at = at[name]
    at[name] = wrong
    try:
        found = against(gradient_part(load.from_body(config)), GRADIENT["spec"])
    except SpecError as error:
        found = [problem for problem in error.problems if not str(problem).encode()]
    assert found == []


TEXTS = [file.read_bytes() for file in sorted((Path(__file__).parent / "files").iterdir())]
PIECES = [
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!str ",
    b"!x ",
    b"{",
    b"}",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"\n",
    b'"',
    b"'",
    b"\\u",
]
PIECES += [
    b"\\",
    b"null",
    b"1e999",
    b".nan",
    b"\0",
    b"\xff",
    b"? ",
    b"|",
    b">",
    b"%",
    b"#",
    b"---\n",
    b'"""',
    b"/*",
]
PIECES += [
    b"=",
    b"a.b = 1\n",
    b"[[env]]\n",
    b"1979-05-27 ",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\t",
    b"@",
]


@given(
    st.sampled_from(TEXTS),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(PIECES)), max_size=5),
    st.data(),
)
@pytest.mark.parametrize("kind", ["yaml", "json", "toml"])
@settings(deadline=None, max_examples=150)
def test_a_mangled_text_is_read_or_refused_with_places(
    kind: str, text: bytes, pieces: list[tuple[float, bytes]], data: st.DataObject
) -> None:
    for where, piece in pieces:
        at = int(where * len(text))
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 12)) :]
    _read_or_refused(text, kind)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@pytest.mark.parametrize("kind", ["yaml", "json", "toml"])
@settings(deadline=None, max_examples=150)
def test_noise_is_refused_with_places(kind: str, text: bytes) -> None:
    _read_or_refused(text, kind)


def _read_or_refused(text: bytes, kind: str) -> None:
    try:
        spec = load.load_text(text, format=kind, filename="x", name="n")
        lost = Spec.from_document(spec.document()).document() != spec.document()
    except SpecError as error:
        lost = not all(problem.line and problem.column for problem in error.problems)
    assert not lost
