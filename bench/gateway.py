"""The gateway beside the same HAProxy with a hand-written file, and how soon a verdict stops requests.

Both have the same two replicas. Runs alternate, so that whatever else the machine does hits both alike, and
of the pairs that half counts in which both together served most.
`python -m bench.gateway` runs this part alone.
"""

import asyncio
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.table import Row, as_text, at_least, at_most, figure
from hale.clock import Clock
from hale.local.balancers.haproxy import HaproxyBalancer
from hale.local.balancers.haproxy_process import Process, find_binary, probe_port, spawn, threads
from hale.ports import Route, Server
from hale.settings import Address

HOST = "web.localhost"
ROUNDS, SECONDS, CONNECTIONS = 16, 1, 32
VERDICTS, VERDICT_CONNECTIONS = 100, 8

# What someone who knows HAProxy writes for one application with two servers.
HAND_WRITTEN = """\
global
    nbthread {threads}

defaults
    mode http
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    option http-no-delay
    option forwardfor
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response

frontend web
    bind {bind}
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID
    http-request disable-l7-retry unless {{ method GET HEAD OPTIONS TRACE PUT DELETE }}
    http-request set-header X-Forwarded-Proto http
    http-response set-header X-Request-ID %[unique-id]
    default_backend web

backend web
    balance leastconn
{servers}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of load: requests per second, p99 in milliseconds, requests that failed."""

    rate: float
    p99: float
    failed: int


class _Replica(asyncio.Protocol):
    """Answers every request at once, and remembers when the last one came. GET /last asks for that."""

    last = 0.0
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
        + b'{"status":"ok"}'
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /last "):
            told = b"%.9f" % _Replica.last
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))
            return
        _Replica.last = time.monotonic()
        *whole, self._begun = (self._begun + data).split(b"\r\n\r\n")
        self._transport.write(self.answer * len(whole))


async def _replica() -> None:
    server = await asyncio.get_running_loop().create_server(_Replica, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@asynccontextmanager
async def _replicas(count: int) -> AsyncIterator[list[int]]:
    """Ports of replicas in processes of their own."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "bench.gateway", "replica"]
    running = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(count)]
    try:
        yield [int(await process.stdout.readline()) for process in running if process.stdout]
    finally:
        for process in running:
            if process.stdin:
                process.stdin.close()
            await process.wait()


@asynccontextmanager
async def _hand_written(folder: Path, ports: Sequence[int]) -> AsyncIterator[Address]:
    address = probe_port(Address("127.0.0.1", 0))
    servers = "\n".join(f"    server s{port} 127.0.0.1:{port}" for port in ports)
    text = HAND_WRITTEN.format(bind=address, threads=threads(), servers=servers)
    (folder / "hand.cfg").write_text(text)
    pid = spawn(await find_binary(), ["-db", "-f", str(folder / "hand.cfg")], folder / "hand.log")
    process = Process(pid)
    try:
        await _listening(address)
        yield address
    finally:
        await process.end(signal.SIGTERM, patience=5)
        process.close()


async def _listening(address: Address) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


# --- load ---


class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, or `pause` seconds later."""

    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self.seconds: list[float] = []
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.seconds.append(time.perf_counter() - self._asked)
        self.failed += not data.startswith(b"HTTP/1.1 200")
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._ask)
        else:
            self._ask()

    def end(self) -> None:
        self._transport.abort()


async def _call(address: str, connections: int, seconds: float, pause: float) -> None:
    """The load where wrk is not installed; prints as `_load` reads it."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Caller(pause), host, int(port)) for _ in range(connections)]
    await asyncio.sleep(seconds)
    callers = [caller for _, caller in made]
    for caller in callers:
        caller.end()
    taken = sorted(second for caller in callers for second in caller.seconds)
    failed = sum(caller.failed for caller in callers)
    print(f"99% {taken[len(taken) * 99 // 100] * 1000:.3f}ms\nRequests/sec: {len(taken) / seconds:.1f}")
    print(f"Non-2xx or 3xx responses: {failed}")


def _load_command(address: Address, connections: int, seconds: int) -> list[str]:
    wrk = shutil.which("wrk")
    if wrk is None:
        return _own_load_command(str(address), connections, seconds)
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {HOST}"]
    return [wrk, *options, f"http://{address}/"]


@contextmanager
def calling(address: str, connections: int, seconds: int, *, pause: float = 0.0) -> Iterator[None]:
    """Load on the gateway at the address beside what is done inside, for so many seconds."""
    command = _own_load_command(address, connections, seconds, pause)
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        load.terminate()
        load.wait()


def _own_load_command(address: str, connections: int, seconds: int, pause: float = 0.0) -> list[str]:
    words = [address, *map(str, (connections, seconds, pause))]
    return [sys.executable, "-m", "bench.gateway", "call", *words]


async def _load(address: Address, *, seconds: int = SECONDS) -> Run:
    command = _load_command(address, CONNECTIONS, seconds)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    return parse_load(output)


_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def parse_load(output: str) -> Run:
    """What wrk prints."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if rate is None or p99 is None:
        raise RuntimeError(f"cannot read what the load generator printed: {output!r}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Run(float(rate[1]), float(p99[1]) * _MILLISECONDS[p99[2]], int(failed[1]) if failed else 0)


# --- the measurements ---


async def throughput(balancer: HaproxyBalancer, hand: Address, *, rounds: int = ROUNDS) -> list[list[Run]]:
    """Runs through hale and through the hand-written file, in turn, each first as often as the other."""
    runs: list[list[Run]] = [[], []]
    places = [balancer.address, hand]
    for place in places:
        await _load(place)
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            runs[which].append(await _load(places[which]))
    return runs


async def verdicts(balancer: HaproxyBalancer, ports: Sequence[int], *, count: int = VERDICTS) -> list[float]:
    """Milliseconds from `set_ready(False)` to the last request on that replica, under load."""
    command = _load_command(balancer.address, VERDICT_CONNECTIONS, count)
    load = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    found = []
    try:
        await asyncio.sleep(0.5)
        for number in range(count):
            which = number % 2
            began = time.monotonic()
            balancer.set_ready(f"r{which}", ready=False)
            await asyncio.sleep(0.1)
            found.append(max(0.0, await _last_request(ports[which]) - began) * 1000)
            balancer.set_ready(f"r{which}", ready=True)
            await asyncio.sleep(0.05)
    finally:
        load.terminate()
        await load.wait()
    return found


async def _last_request(port: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /last HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    told = await reader.read(64)
    writer.close()
    return float(told)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: runs in pairs, milliseconds from verdicts to last requests."""

    hale: list[Run]
    hand: list[Run]
    verdicts: list[float]

    @property
    def pairs(self) -> list[tuple[Run, Run]]:
        """The half of the pairs that the machine disturbed least: the most requests of both together."""
        pairs = sorted(zip(self.hale, self.hand, strict=True), key=lambda pair: -pair[0].rate - pair[1].rate)
        return pairs[: (len(pairs) + 1) // 2]

    @property
    def ratio(self) -> float:
        """Of the rates, pair by pair: what both suffered at the same time cancels out."""
        return statistics.median(a.rate / b.rate for a, b in self.pairs)

    @property
    def p99_ratio(self) -> float:
        """The same of the latencies, the hand-written file's over hale's: more is better here, too."""
        return statistics.median(b.p99 / a.p99 for a, b in self.pairs)


async def measure(*, rounds: int = ROUNDS, count: int = VERDICTS) -> Figures:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = await stack.enter_async_context(_replicas(2))
        hand = await stack.enter_async_context(_hand_written(folder, ports))
        balancer = HaproxyBalancer(folder / "gateway", Address("127.0.0.1", 0), Clock.start())
        await stack.enter_async_context(balancer)
        stack.push_async_callback(balancer.stop)
        servers = tuple(Server(f"r{n}", "127.0.0.1", port, ready=True) for n, port in enumerate(ports))
        await balancer.apply([Route("d1", (HOST,), servers)])
        through, beside = await throughput(balancer, hand, rounds=rounds)
        return Figures(through, beside, await verdicts(balancer, ports, count=count))


async def rows() -> list[Row]:
    figures = await measure()
    taken = sorted(figures.verdicts)
    return [
        figure("requests through hale", statistics.median(a.rate for a, _ in figures.pairs), "1/s"),
        figure(
            "requests through a hand-written file", statistics.median(b.rate for _, b in figures.pairs), "1/s"
        ),
        at_least("hale / hand-written", figures.ratio, "", 0.95),
        figure("p99 through hale", statistics.median(a.p99 for a, _ in figures.pairs), "ms"),
        figure("p99 through a hand-written file", statistics.median(b.p99 for _, b in figures.pairs), "ms"),
        at_least("p99, hand-written / hale", figures.p99_ratio, "", 0.95),
        at_most("requests that failed", sum(r.failed for r in figures.hale), "", 0),
        at_most("word to HAProxy to last request, p50", statistics.median(taken), "ms", 2),
        at_most("word to HAProxy to last request, p99", taken[len(taken) * 99 // 100], "ms", 10),
    ]


def main() -> None:
    match sys.argv[1:]:
        case ["replica"]:
            uvloop.run(_replica())
        case ["call", address, connections, seconds, pause]:
            uvloop.run(_call(address, int(connections), float(seconds), float(pause)))
        case _:
            print(as_text("gateway", uvloop.run(rows())))


if __name__ == "__main__":
    main()
