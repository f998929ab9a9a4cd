"""The log of an attempt: positions stay, pieces go, times are known to about a second."""

from pathlib import Path

import pytest

from hale.local.engines import log_files
from hale.local.engines.log_files import LINE, LogFiles


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def texts(logs: LogFiles, position: int = 0, *, over: bool = False) -> list[str]:
    return [line.text for line in logs.read(position, 1_000_000, over)]


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_lines_are_read_on_from_where_one_left_off(log: Path) -> None:
    append(log, b"one\ntwo\nthree\n")
    logs = LogFiles(log.parent)
    first = logs.read(0, 2, False)
    assert [line.text for line in first] == ["one", "two"]
    assert texts(logs, first[-1].end) == ["three"]


def test_an_unfinished_line_waits_until_it_is_finished_or_the_attempt_is_over(log: Path) -> None:
    append(log, b"one\nhal")
    logs = LogFiles(log.parent)
    assert texts(logs) == ["one"]
    assert texts(logs, over=True) == ["one", "hal"]
    append(log, b"f\n")
    assert texts(logs, 4) == ["half"]


def test_a_line_without_end_comes_in_parts(log: Path) -> None:
    append(log, b"x" * (2 * LINE + 5) + b"\nnext\n")
    assert [len(text) for text in texts(LogFiles(log.parent))] == [LINE, LINE, 5, 4]


def test_what_is_no_utf8_is_shown_all_the_same(log: Path) -> None:
    append(log, b"caf\xe9\r\n\n")
    assert texts(LogFiles(log.parent)) == ["caf\N{REPLACEMENT CHARACTER}", ""]


def test_a_line_has_the_time_when_it_was_first_seen(log: Path) -> None:
    logs = LogFiles(log.parent)
    append(log, b"one\n")
    logs.tend(100.0)
    logs.tend(101.0)
    append(log, b"two\nthree\n")
    logs.tend(102.0)
    append(log, b"four\n")
    assert [line.at for line in logs.read(0, 10, False)] == [100.0, 102.0, 102.0, None]


@pytest.mark.parametrize("collapse", [True, False], ids=["range taken out", "copied and cut"])
def test_cutting_a_large_log_loses_no_line_and_moves_no_position(
    log: Path, monkeypatch: pytest.MonkeyPatch, collapse: bool
) -> None:
    monkeypatch.setattr(log_files, "PIECE", 100_000)
    if not collapse:
        monkeypatch.setattr(log_files, "_collapse", lambda descriptor, count: False)
    logs = LogFiles(log.parent)
    lines = [f"line {number} {'.' * 30}" for number in range(9000)]
    for begin in range(0, len(lines), 500):
        append(log, "".join(f"{line}\n" for line in lines[begin : begin + 500]).encode())
        logs.tend(float(begin))
    seen = texts(logs)
    assert seen == lines[-len(seen) :]
    assert len(seen) > 6000
    assert len(list(log.parent.glob("log.[0-9]*"))) == log_files.KEPT
    end = logs.read(0, 1, False)[0].end
    assert texts(logs, end) == seen[1:]


def test_a_reader_that_was_left_behind_goes_on_with_what_is_kept(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "PIECE", 10_000)
    logs = LogFiles(log.parent)
    for number in range(100):
        append(log, b"%04d%s\n" % (number, b"." * 995))
        logs.tend(float(number))
    assert texts(logs, 1000)[-1].startswith("0099")
