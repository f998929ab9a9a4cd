"""What one HTTP check costs the daemon: CPU time of the checking process, beside aiohttp and the limit.

The server is another process, and quick enough not to matter. The limit is a bare epoll loop that makes the
same system calls and nothing else: in C if there is a compiler, else in Python. The three take turns, since
machines are seldom quiet, and of each the best round counts: what others do at the time only ever adds.
"""

import asyncio
import gc
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import aiohttp
import uvloop

from bench.native import Programs, answering
from bench.table import Row, at_most, figure
from hale.clock import Clock
from hale.core.probe import Health, HttpAction, Probe, ProbeKind, ProbeResult, record
from hale.local.checks import Checker, Target
from hale.ports import Engine

CHECKS = 20_000
AT_A_TIME = 64
ROUNDS = 6

NO_ENGINE = cast("Engine", None)  # it is asked for exec checks alone
PROBE = Probe(ProbeKind.READINESS, HttpAction("/readiness/"))

Contender = Callable[[int], Coroutine[None, None, None]]


def rows() -> list[Row]:
    """CPU time of one check in microseconds, and the two ratios."""
    with TemporaryDirectory() as folder:
        programs = Programs.made(Path(folder))
        with answering(programs) as (port,):
            one_round(port, programs)
            rounds = [one_round(port, programs) for _ in range(ROUNDS)]
    ours, rival, bare = map(min, zip(*rounds, strict=True))
    return [
        figure("one HTTP check, hale", ours, "µs"),
        figure("one HTTP check, aiohttp", rival, "µs"),
        figure(f"one HTTP check, bare epoll loop ({programs.language})", bare, "µs"),
        at_most("hale / aiohttp", ours / rival, "", 0.33),
        at_most("hale / bare loop", ours / bare, "", 1.6),
    ]


def one_round(port: int, programs: Programs) -> tuple[float, float, float]:
    """Microseconds of CPU time per check: hale, aiohttp, the bare loop."""
    words = [*programs.bare, str(port), str(CHECKS), str(AT_A_TIME)]
    bare = subprocess.run(words, capture_output=True, check=True, text=True)
    return cpu(with_hale, port), cpu(with_aiohttp, port), float(bare.stdout)


def cpu(contender: Contender, port: int) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gc.collect()
        before = time.process_time()
        runner.run(contender(port))
        return (time.process_time() - before) / CHECKS * 1e6


async def with_hale(port: int) -> None:
    """As the prober does it: begin, parse, time out, record."""
    target = Target("r1", "127.0.0.1", {8000: port})
    health = Health.initial(PROBE.kind)
    done = asyncio.get_running_loop().create_future()
    left, under_way = CHECKS, 0

    def begin() -> None:
        nonlocal left, under_way
        left -= 1
        under_way += 1
        checker.begin(PROBE, target, report)

    def report(result: ProbeResult) -> None:
        nonlocal health, under_way
        health = record(health, result, PROBE)
        under_way -= 1
        if not result.ok:
            done.set_exception(RuntimeError(result.detail))
        elif left:
            begin()
        elif not under_way:
            done.set_result(None)

    async with Checker(Clock.start(), NO_ENGINE) as checker:
        for _ in range(AT_A_TIME):
            begin()
        await done


async def with_aiohttp(port: int) -> None:
    """The same with aiohttp, leaving out what it need not do: cookies, decompression, keeping connections."""
    clock = Clock.start()
    health = Health.initial(PROBE.kind)
    url = f"http://127.0.0.1:{port}/readiness/"

    async def check(session: aiohttp.ClientSession) -> ProbeResult:
        at = clock.now()
        async with session.get(url) as response:
            text = await response.text()
            ok = 200 <= response.status < 400
            return ProbeResult(at, ok, clock.now() - at, response.status, text[:256])

    async def some(session: aiohttp.ClientSession) -> None:
        nonlocal health
        for _ in range(CHECKS // AT_A_TIME):
            health = record(health, await check(session), PROBE)

    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=PROBE.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(AT_A_TIME):
            group.create_task(some(session))
