"""The log of an attempt: positions stay, pieces go, times are known to about a second."""

import shutil
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


@pytest.mark.parametrize("collapse", [True, False], ids=["range taken out", "copied and cut"])
def test_of_a_flood_only_as_much_as_is_kept_reaches_the_disk_again(
    log: Path, monkeypatch: pytest.MonkeyPatch, collapse: bool
) -> None:
    monkeypatch.setattr(log_files, "PIECE", 40_960)
    if not collapse:
        monkeypatch.setattr(log_files, "_collapse", lambda descriptor, count: False)
    logs = LogFiles(log.parent)
    for flood in range(3):
        append(log, b"".join(b"%d-%06d%s\n" % (flood, number, b"." * 91) for number in range(10_000)))
        logs.tend(float(flood))
    assert sum(path.stat().st_size for path in log.parent.iterdir()) < 10 * log_files.PIECE
    last = [text for text in texts(logs) if text.startswith("2-")]
    assert len(last) > 1000
    assert last == [f"2-{number:06d}{'.' * 91}" for number in range(10_000 - len(last), 10_000)]
    assert logs.read(0, 1_000_000, False)[-1].end == 3 * 10_000 * 100


def test_an_idle_log_costs_one_look(log: Path) -> None:
    logs = LogFiles(log.parent)
    append(log, b"one\n")
    logs.tend(100.0)
    (log.parent / "log.times").unlink()
    logs.tend(101.0)
    assert not (log.parent / "log.times").exists()


def test_the_index_forgets_what_was_dropped(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "PIECE", 10_000)
    logs = LogFiles(log.parent)
    for second in range(1000):
        append(log, b"%s\n" % (b"." * 99))
        logs.tend(float(second))
    assert (log.parent / "log.times").stat().st_size < 600 * 16
    lines = logs.read(0, 1_000_000, False)
    assert len(lines) > 300
    assert [line.at for line in lines[1:]] == [float(second) for second in range(1001 - len(lines), 1000)]


@pytest.mark.parametrize("cut", [True, False], ids=["after the cut", "before the cut"])
def test_a_piece_that_was_being_cut_when_we_were_killed_is_neither_lost_nor_doubled(
    log: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    monkeypatch.setattr(log_files, "PIECE", 10_000)
    lines = [f"{number:09d}" for number in range(1_500)]
    append(log, "".join(f"{line}\n" for line in lines).encode())
    before = log.parent / "before"
    shutil.copy(log, before)
    LogFiles(log.parent).tend(0.0)
    (piece,) = log.parent.glob("log.[0-9]*")
    piece.rename(log.parent / "part.0")
    if not cut:
        before.rename(log)
    LogFiles(log.parent).tend(1.0)
    assert texts(LogFiles(log.parent)) == lines
