"""The copy of a container's log: each entry once, whatever is killed in between."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from hale.local.engines.container_logs import Entry, Splitter, _Copy, _since, joined
from hale.local.engines.log_files import LogFiles


def frame(text: str, stream: int = 1, *, at: str = "2026-11-28T16:19:40Z") -> bytes:
    content = f"{at} {text}".encode()
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4) + content


AT = 17958827800
"""In tenths of a second."""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    content = frame("one\n") + frame("", 2) + frame("zwei \u00fc\n", 2)
    splitter, entries = Splitter(), list[Entry]()
    for begin in range(0, len(content), size):
        entries += splitter.feed(content[begin : begin + size])
    assert entries == [Entry(AT, b"one\n", 1), Entry(AT, b"", 2), Entry(AT, "zwei \u00fc\n".encode(), 2)]


@pytest.mark.parametrize(
    ("at", "tenths"),
    [
        ("2026-11-28T16:19:40Z", 0),
        ("2026-11-28T16:19:40.999999999Z", 9),
        ("2026-11-28T18:19:40.1+02:00", 1),
    ],
)
def test_engines_write_times_in_several_ways(at: str, tenths: int) -> None:
    assert Splitter().feed(frame("x\n", at=at)) == [Entry(AT + tenths, b"x\n")]


def test_a_line_that_only_looks_like_a_time_is_text() -> None:
    assert Splitter().feed(frame("2026-01-01T00:00:00Z y\n"))[0].text == b"2026-01-01T00:00:00Z y\n"


@pytest.mark.parametrize(
    ("entries", "text", "going"),
    [
        ([Entry(1, b"a\n"), Entry(1, b"b\n", 2)], b"a\nb\n", 0),
        ([Entry(1, b"a"), Entry(1, b"b\n")], b"ab\n", 0),
        ([Entry(1, b"a"), Entry(1, b"b\n", 2), Entry(1, b"c")], b"a\nb\nc", 1),
    ],
)
def test_parts_of_a_line_are_joined_and_the_two_streams_kept_apart(
    entries: Sequence[Entry], text: bytes, going: int
) -> None:
    assert joined(entries, 0) == (text, going)


def test_a_line_left_open_is_gone_on_with_by_its_own_stream_alone() -> None:
    assert joined([Entry(1, b"b\n")], 1) == (b"b\n", 0)
    assert joined([Entry(1, b"b\n", 2)], 1) == (b"\nb\n", 0)


LOG = [
    Entry(10, b"zero\n"),
    Entry(10, b"one\n"),
    Entry(11, b"two "),
    Entry(11, b"three\n"),
    Entry(11, b"four\n", 2),
    Entry(13, b"five\n"),
    Entry(13, b"six"),
]
WHOLE = ["zero", "one", "two three", "four", "five", "six"]


def copied(folder: Path, entries: Sequence[Entry], *, batch: int = 100) -> _Copy:
    """What a hale does that has just come up: the engine gives those of the mark's second and later ones."""
    copy = _Copy(folder)
    since = copy.begin().at
    given = [entry for entry in entries if entry.at >= since]
    for begin in range(0, len(given), batch):
        copy.take(given[begin : begin + batch])
    return copy


def texts(folder: Path) -> list[str]:
    return [line.text for line in LogFiles(folder).read(0, 1000, True)]


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("first", range(len(LOG) + 1))
def test_copying_goes_on_where_it_was(tmp_path: Path, first: int, batch: int) -> None:
    copied(tmp_path, LOG[:first], batch=batch)
    copied(tmp_path, LOG, batch=batch)
    copied(tmp_path, LOG)
    assert texts(tmp_path) == WHOLE


@pytest.mark.parametrize("lost", range(1, 20))
def test_what_was_copied_and_not_noted_when_hale_was_killed_is_not_copied_again(
    tmp_path: Path, lost: int
) -> None:
    copied(tmp_path, LOG[:2])
    mark = (tmp_path / "copied.json").read_bytes()
    copied(tmp_path, LOG)
    # Killed in the middle of an append, before the mark was written.
    (tmp_path / "copied.json").write_bytes(mark)
    log = tmp_path / "log"
    log.write_bytes(log.read_bytes()[:-lost])
    copied(tmp_path, LOG)
    assert texts(tmp_path) == WHOLE


def test_lines_know_their_time(tmp_path: Path) -> None:
    copied(tmp_path, LOG)
    lines = LogFiles(tmp_path).read(0, 1000, True)
    assert [line.at for line in lines] == [1.0, 1.0, 1.1, 1.1, 1.3, 1.3]
    assert all(before.end < after.end for before, after in pairwise(lines))


def test_what_is_older_than_the_mark_is_not_counted_if_it_is_given(tmp_path: Path) -> None:
    copied(tmp_path, LOG[:4])
    copy = _Copy(tmp_path)
    assert copy.begin().at == 11
    copy.take(LOG)
    assert texts(tmp_path) == WHOLE


def test_what_the_engine_has_dropped_is_not_counted_as_known(tmp_path: Path) -> None:
    copied(tmp_path, LOG[:5])
    copied(tmp_path, [Entry(11, b"four\n", 2), *LOG[5:]])
    assert texts(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("podman", "said"), [(True, "2026-11-28T16:19:39.999999999Z"), (False, "1795882779.999999999")]
)
def test_engines_are_asked_from_just_before_a_time_on(podman: bool, said: str) -> None:
    assert _since(AT, podman=podman) == said


def test_a_mark_nobody_can_read_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "copied.json").write_text("[1, 2")
    copied(tmp_path, LOG)
    assert texts(tmp_path) == WHOLE


def test_times_out_of_order_are_in_the_order_of_the_log(tmp_path: Path) -> None:
    copied(tmp_path, [Entry(13, b"one\n"), Entry(12, b"two\n"), Entry(13, b"three\n")])
    assert texts(tmp_path) == ["one", "two", "three"]
