"""What checks do with sockets and files: nothing is left behind, nobody is disturbed, nobody waits."""

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.talk import hang, ok, sends

from hale.clock import Clock
from hale.core.probe import HttpAction, Probe, ProbeKind, ProbeResult
from hale.local.checks import Checker, Target
from hale.local.checks.wire import PATIENCE

pytestmark = pytest.mark.real_time


def connections(port: int) -> list[str]:
    """States of the machine's IPv4 connections from or to the port (06: TIME_WAIT), listeners aside."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    own = f":{port:04X}"
    return [row[3] for row in rows if row[3] != "0A" and (row[1].endswith(own) or row[2].endswith(own))]


async def test_row_32_many_checks_of_one_address_leave_no_sockets_behind(serve, ask, until) -> None:
    site = await serve(ok())
    for _ in range(30):
        results = await asyncio.gather(*(ask(site) for _ in range(50)))
        assert all(result.ok for result in results)
    # Much less than the minute that the kernel would keep them.
    await until(lambda: not connections(site.port), within=20)


async def test_a_server_that_never_closes_is_not_waited_for(serve, ask, until) -> None:
    site = await serve(sends(ok()))
    results = await asyncio.gather(*(ask(site) for _ in range(50)))
    assert all(result.ok for result in results)
    await until(lambda: not connections(site.port))


async def test_a_server_that_closes_by_itself_never_sees_a_reset(ask) -> None:
    """A plain blocking server, whose every call would raise."""
    troubles: list[object] = []

    def work() -> None:
        for _ in range(20):
            conn, _ = listener.accept()
            with conn:
                try:
                    conn.recv(65536)
                    conn.sendall(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 5\r\n\r\n")
                    conn.sendall(b"wait!")
                    conn.settimeout(PATIENCE / 4)
                    with contextlib.suppress(TimeoutError):
                        troubles.append(conn.recv(1))
                    troubles.append(conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                except OSError as error:
                    troubles.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work)
        thread.start()
        results = [await ask(listener.getsockname()[1]) for _ in range(20)]
        await asyncio.to_thread(thread.join)
    assert [result.detail for result in results] == ["wait!"] * 20
    assert troubles == [0] * 20


async def test_a_cancelled_check_reports_nothing_and_is_closed(serve, checker: Checker, until) -> None:
    site = await serve(hang)
    reports: list[ProbeResult] = []
    probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=0.3)
    target = Target("r1", "127.0.0.1", {1: site.port})
    cancel = checker.begin(probe, target, reports.append)
    cancel()
    cancel()
    await until(lambda: not connections(site.port))
    await asyncio.sleep(0.4)
    assert reports == []


async def test_a_checker_that_is_closed_ends_its_checks_without_reports(serve, engine, until) -> None:
    site = await serve(hang)
    reports: list[ProbeResult] = []
    async with Checker(Clock.start(), engine) as checker:
        probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=20)
        for _ in range(5):
            checker.begin(probe, Target("r1", "127.0.0.1", {1: site.port}), reports.append)
        await until(lambda: len(site.requests) == 5)
    await until(lambda: not connections(site.port))
    assert reports == []


async def test_a_check_that_is_begun_after_the_end_is_never_reported(serve, engine) -> None:
    site = await serve(ok())
    reports: list[ProbeResult] = []
    async with Checker(Clock.start(), engine) as checker:
        pass
    probe = Probe(ProbeKind.LIVENESS, HttpAction("/"))
    checker.begin(probe, Target("r1", "127.0.0.1", {1: site.port}), reports.append)()
    await asyncio.sleep(0.1)
    assert (reports, site.requests) == ([], [])


async def test_checks_can_be_begun_and_cancelled_from_within_a_report(serve, checker: Checker) -> None:
    site = await serve(ok())
    probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=20)
    target = Target("r1", "127.0.0.1", {1: site.port})
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancels: list[Callable[[], None]] = []
    results: list[ProbeResult] = []

    def report(result: ProbeResult) -> None:
        results.append(result)
        for cancel in cancels:
            cancel()
        cancels.clear()
        if len(results) == 100:
            done.set_result(None)
        elif not done.done():
            cancels.extend(checker.begin(probe, target, report) for _ in range(8))

    checker.begin(probe, target, report)
    async with asyncio.timeout(60):
        await done
    assert all(result.ok for result in results)


async def test_a_report_that_raises_harms_no_other_check(serve, checker: Checker, until) -> None:
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    site, silent = await serve(ok()), await serve(hang)
    results: list[ProbeResult] = []

    def report(result: ProbeResult) -> None:
        results.append(result)
        raise LookupError

    probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=0.5)
    for asked in (site, silent) * 10:
        checker.begin(probe, Target("r1", "127.0.0.1", {1: asked.port}), report)
    await until(lambda: len(raised) == 20)
    assert sorted(result.ok for result in results) == [False] * 10 + [True] * 10


async def test_no_more_files_is_the_prober_s_own_trouble(serve, ask) -> None:
    site = await serve(ok())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        result = await ask(site)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (result.ok, result.detail) == (False, "too many open files")
    assert result.warning == "cannot make a check: too many open files"


async def test_eager_and_instant_are_those_of_the_beginning(serve, engine) -> None:
    site = await serve(ok())
    clock = Clock.start()
    async with Checker(clock, engine) as checker:
        answered: asyncio.Future[ProbeResult] = asyncio.get_running_loop().create_future()
        before = clock.now()
        probe = Probe(ProbeKind.LIVENESS, HttpAction("/"), timeout=20)
        checker.begin(probe, Target("r1", "127.0.0.1", {1: site.port}), answered.set_result, eager=True)
        after = clock.now()
        result = await answered
    assert before <= result.at <= after
    assert result.eager
    assert result.latency > 0
