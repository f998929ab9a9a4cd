"""Commands under guard: heard, and gone with all they have started, however their call ends."""

import asyncio
import os
from pathlib import Path

import pytest
from kit.processes import running

from hale.local.volumes.child import run
from tests.conformance.engine import until

pytestmark = pytest.mark.real_time

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


async def heard(tmp_path: Path, *command: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    return await run(command, ENV, tmp_path, lines.append), lines


async def test_lines_of_both_outputs_are_heard_and_the_exit_code_is_that_of_the_command(
    tmp_path: Path,
) -> None:
    code, lines = await heard(
        tmp_path, "sh", "-c", r"printf '10%%\r20%%\r'; echo err >&2; printf end; exit 7"
    )
    assert (code, lines) == (7, ["10%", "20%", "err", "end"])


async def test_a_signal_that_ends_it_is_told_as_a_shell_does(tmp_path: Path) -> None:
    assert await heard(tmp_path, "sh", "-c", "kill -TERM $$") == (128 + 15, [])


async def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert await heard(tmp_path, "no-such-command") == (
        127,
        ["cannot run no-such-command: No such file or directory"],
    )


async def test_it_finds_nothing_on_its_input_and_only_what_it_is_given_around_it(tmp_path: Path) -> None:
    assert await heard(tmp_path, "cat") == (0, [])
    assert await heard(tmp_path, "env") == (0, [f"{name}={value}" for name, value in ENV.items()])


async def test_an_endless_line_is_no_trouble(tmp_path: Path) -> None:
    code, lines = await heard(tmp_path, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert (code, lines[-1]) == (0, "end")
    assert len(lines[0]) < 1 << 20


async def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    code, lines = await heard(tmp_path, "sh", "-c", "setsid sleep 1000 & sleep 1000 & echo $!; exit 0")
    assert code == 0
    assert not running(int(lines[0]))


async def test_cancelled_it_is_gone_with_all_that_it_has_started(tmp_path: Path) -> None:
    script = "trap '' TERM INT HUP; setsid sh -c 'echo $$; exec sleep 1000' & echo $$; sleep 1000; sleep 1000"
    lines: list[str] = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(("sh", "-c", script), ENV, tmp_path, lines.append))
        await until(lambda: len(lines) == 2)
        assert all(running(int(pid)) for pid in lines)
        task.cancel()
    assert not any(running(int(pid)) for pid in lines)


async def test_who_hears_may_end_it(tmp_path: Path) -> None:
    pids: list[int] = []

    def hear(line: str) -> None:
        pids.append(int(line))
        raise EOFError

    with pytest.raises(EOFError):
        await run(("sh", "-c", "echo $$; exec sleep 1000"), ENV, tmp_path, hear)
    assert not running(pids[0])
