"""Wrong things, and what is said about each: place, field, what was found, what is allowed.

`messages.txt` has them. Under `#` a few lines come after BASE (whose last line is the fifth), under `##`
stands the whole text. MESSAGES=rewrite writes the answers anew; read the diff.
"""

import os
import re
from pathlib import Path

import pytest

from tests.spec.specs import BASE, problems

FILE = Path(__file__).parent / "messages.txt"
CASE = re.compile(
    r"^(?P<mark>##?) (?P<title>.+)\n(?P<text>(?:.*\n)*?)----\n(?P<said>(?:.+\n)*)", re.MULTILINE
)
CASES = list(CASE.finditer(FILE.read_text()))


def answers(case: re.Match[str]) -> str:
    text = case["text"] if case["mark"] == "##" else BASE + case["text"]
    return "".join(problem.removeprefix("app.yaml:") + "\n" for problem in problems(text))


if os.environ.get("MESSAGES") == "rewrite":
    FILE.write_text("\n".join(f"{c['mark']} {c['title']}\n{c['text']}----\n{answers(c)}" for c in CASES))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["title"]) for case in CASES])
def test_what_is_wrong_is_said_with_its_place(case: re.Match[str]) -> None:
    assert answers(case) == case["said"] != ""


def test_the_base_of_these_cases_is_right() -> None:
    assert problems(BASE) == []
    assert len(CASES) > 70


def test_limits_of_length() -> None:
    assert problems(BASE.replace("[8000]", str(list(range(1, 65))))) == []
    assert problems(BASE.replace("[8000]", str(list(range(1, 66))))) == [
        "app.yaml:5:3: resources.ports: must have 1 to 64 entries, and has 65"
    ]
    assert problems(BASE.replace("web", "x" * 255)) == []
    assert problems(BASE.replace("web", "x" * 256)) == [
        "app.yaml:1:1: name: must be 1 to 255 characters long, not 256"
    ]


@pytest.mark.parametrize("kind", ["yaml", "json", "toml"])
def test_text_that_is_no_text(kind: str) -> None:
    assert problems(b"a = 1\n# \xc3\xbc\xff", kind) == [
        f"app.{kind}:2:4: not UTF-8: byte 0xff; save the file as UTF-8"
    ]
    assert problems("# a\x07b", kind) == [f"app.{kind}:1:4: control character U+0007"]
    assert problems(b" " * (1024 * 1024 + 1), kind) == [f"app.{kind}:1:1: larger than 1024 KiB"]
    assert problems(b"a = [\n\0", kind) == [f"app.{kind}:2:1: control character U+0000"]


def test_nesting_never_overflows() -> None:
    assert problems("a: " + "[" * 10_000) == ["app.yaml:1:67: nested more than 64 levels deep"]
    assert problems('{"a":' + "[" * 100_000, "json") == ["app.json:1:70: nested more than 64 levels deep"]
    assert problems("a=" + "[" * 100_000, "toml") == ["app.toml:1:1: nested more than 64 levels deep"]
    assert problems("a." * 10_000 + "b=1", "toml") == ["app.toml:1:1: nested more than 64 levels deep"]
