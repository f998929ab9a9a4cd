"""Exec checks in virtual time on an engine without processes; TCP checks on real sockets."""

import asyncio
import logging

import pytest
from kit.talk import hang, ok

from hale.clock import Clock
from hale.core.probe import ExecAction, Probe, ProbeKind, ProbeResult, TcpAction
from hale.errors import EngineError, EngineUnavailableError
from hale.local.checks import Checker, Target
from hale.local.checks.body import BODY_LIMIT
from hale.local.checks.text import SHOWN
from hale.ports import ExecResult

COMMAND = ExecAction(("cat", "/tmp/health"))


@pytest.mark.parametrize(("code", "success"), [(0, True), (1, False), (137, False), (-9, False)])
async def test_rows_63_and_64_exit_code_0_is_success(engine, ask, code: int, *, success: bool) -> None:
    engine.result = ExecResult(code, "said so\n")
    result = await ask(1, COMMAND)
    assert (result.ok, result.status, result.detail, result.warning) == (success, code, "said so", "")
    assert result.exited


async def test_row_31_the_command_goes_to_the_engine_as_it_is(engine, ask) -> None:
    await ask(1, ExecAction(("sh", "-c", "echo $(A)")), timeout=3)
    assert engine.commands == [("r1", ("sh", "-c", "echo $(A)"), 3)]


async def test_row_69_a_command_beyond_its_timeout_is_a_failure(engine, ask) -> None:
    engine.result = ExecResult(None, "")
    result = await ask(1, COMMAND, timeout=1)
    assert (result.ok, result.status, result.detail) == (False, None, "no exit within 1 s")


async def test_row_70_what_it_said_before_it_was_killed_is_shown(engine, ask) -> None:
    engine.result = ExecResult(None, "connecting\n")
    assert (await ask(1, COMMAND, timeout=1)).detail == "no exit within 1 s: connecting"


@pytest.mark.parametrize(("code", "shown"), [(0, SHOWN), (1, BODY_LIMIT)])
async def test_output_is_shown_in_part_and_without_control_characters(
    engine, ask, code: int, shown: int
) -> None:
    engine.result = ExecResult(code, "\x1b[31m" + "x" * 20_000)
    result = await ask(1, COMMAND)
    assert result.detail == ("\N{REPLACEMENT CHARACTER}[31m" + "x" * 20_000)[:shown]


async def test_a_command_that_cannot_be_run_is_a_failure(engine, ask) -> None:
    engine.result = EngineError("cannot run cat in replica r1: command not found")
    result = await ask(1, COMMAND)
    assert (result.ok, result.warning) == (False, "")
    assert result.detail == "cannot run cat in replica r1: command not found"


async def test_an_engine_that_is_away_is_told_once_and_again_when_it_was_back(
    engine, ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for result in [EngineUnavailableError("cannot reach it"), ExecResult(0, "")] * 2:
        engine.result = result
        results = [await ask(1, COMMAND) for _ in range(3)]
        away = "cannot make a check: hale could not run its command, the log says why"
        expected = "" if isinstance(result, ExecResult) else away
        assert [each.warning for each in results] == [expected] * 3
    assert (
        caplog.messages
        == [
            "exec checks are not made: cannot reach it",
            "exec checks are made again",
        ]
        * 2
    )


async def test_a_mistake_in_the_engine_is_the_prober_s_own_trouble(engine, ask) -> None:
    engine.result = ZeroDivisionError()
    result = await ask(1, COMMAND)
    assert not result.ok
    assert result.warning.startswith("cannot make a check")


async def test_a_cancelled_command_is_ended_and_not_reported(engine, checker: Checker) -> None:
    engine.takes = 100
    reports: list[ProbeResult] = []
    probe = Probe(ProbeKind.LIVENESS, COMMAND)
    cancel = checker.begin(probe, Target("r1", "127.0.0.1", {}), reports.append)
    await asyncio.sleep(1)
    cancel()
    await asyncio.sleep(200)
    assert (reports, engine.cancelled) == ([], 1)


async def test_a_checker_that_is_closed_ends_its_commands(engine) -> None:
    engine.takes = 100
    reports: list[ProbeResult] = []
    async with Checker(Clock.start(), engine) as checker:
        for _ in range(3):
            checker.begin(Probe(ProbeKind.LIVENESS, COMMAND), Target("r1", "127.0.0.1", {}), reports.append)
        await asyncio.sleep(1)
    assert (reports, engine.cancelled) == ([], 3)


@pytest.mark.real_time
async def test_row_66_an_accepted_connection_is_success(serve, ask) -> None:
    site = await serve(ok())
    result = await ask(site, TcpAction())
    assert (result.ok, result.status, result.detail) == (True, None, "connection accepted")
    assert not result.exited
    assert site.requests == []


@pytest.mark.real_time
async def test_a_refused_connection_is_a_failure(ask, free_port: int) -> None:
    result = await ask(free_port, TcpAction())
    assert (result.ok, result.detail, result.warning) == (False, "connection refused", "")


@pytest.mark.real_time
async def test_a_full_backlog_is_a_failure_when_the_time_is_over(ask) -> None:
    """Nobody accepts, and the kernel keeps no more connections waiting: packets are dropped."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            results = [await ask(port, TcpAction(), timeout=0.2), await ask(port, "/", timeout=0.2)]
    assert [(result.ok, result.detail) for result in results] == [(False, "no connection within 200 ms")] * 2


@pytest.mark.real_time
async def test_a_cancelled_connection_is_not_reported(serve, checker: Checker, ask) -> None:
    site = await serve(hang)
    reports: list[ProbeResult] = []
    probe = Probe(ProbeKind.READINESS, TcpAction(), timeout=20)
    checker.begin(probe, Target("r1", "127.0.0.1", {1: site.port}), reports.append)()
    assert (await ask(site, TcpAction())).ok
    assert reports == []


@pytest.mark.real_time
async def test_a_tcp_check_needs_a_port_and_an_address(checker: Checker) -> None:
    details = []
    for target in (Target("r1", "127.0.0.1", {}), Target("r1", "nowhere", {1: 2})):
        answered: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
        checker.begin(Probe(ProbeKind.READINESS, TcpAction()), target, answered.set_result)
        details.append((await answered).detail)
    assert details == ["there is no port to check", "nowhere is not an address"]
