"""The data plane: HAProxy's master and workers, their folder, and how to start, find and end them."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hale.errors import BalancerError
from hale.local.balancers.haproxy_config import RUNTIME, Gateway, identity, render
from hale.local.balancers.haproxy_process import Process, probe_port, spawn
from hale.local.balancers.haproxy_socket import MASTER, Runtime, ask_master, in_folder
from hale.local.balancers.haproxy_table import HOSTS, KEYS, Table, map_text, parse_files
from hale.settings import Address

CONFIG, LOG, PORT = "haproxy.cfg", "haproxy.log", "port"

_LOG_BYTES = 1 << 20
_POLL = 0.005
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_ORPHAN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Workers:
    """What the master says of itself and its workers."""

    master: int
    reloads: int
    failed: int
    current: int | None
    old: tuple[int, ...]


_PROCESS = re.compile(r"^(\d+)\s+(master|worker)\s+(\d+)(?: \[failed: (\d+)\])?", re.MULTILINE)


def parse_workers(text: str) -> Workers:
    """The answer to `show proc`. BalancerError if it is none."""
    recent, _, old = text.partition("# old workers")
    found = {kind: (int(pid), int(n), int(failed or 0)) for pid, kind, n, failed in _PROCESS.findall(recent)}
    if "master" not in found:
        raise BalancerError("cannot ask HAProxy's master process: no sense in its answer")
    master, reloads, failed = found["master"]
    current = found["worker"][0] if "worker" in found else None
    return Workers(master, reloads, failed, current, tuple(int(pid) for pid, *_ in _PROCESS.findall(old)))


class Plane:
    """One HAProxy in one folder; everything in there is named relative to it."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.gateway: Gateway | None = None
        self._binary = binary
        self._written: dict[str, str] = {}
        self._processes: dict[int, Process] = {}
        self._master: Process | None = None
        self._old: tuple[int, ...] = ()
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Let go of it; it runs on."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()
        os.close(self._fd)

    # --- files ---

    def last_table(self) -> Table:
        """What was routed last, without servers: what they were is of no use after an end."""
        return parse_files(self._text(HOSTS), self._text(KEYS), stock=self.last_stock())

    def runs(self, gateway: Gateway) -> bool:
        """Whether what was started last is what would be started now."""
        return self._text(CONFIG).startswith(identity(gateway))

    def last_stock(self) -> int:
        """How many slots were there."""
        return self._text(CONFIG).count("\nbackend slot-")

    def remembered(self, host: str) -> Address:
        """An address on the host whose port stays over restarts, as long as nobody else takes it."""
        known = self._text(PORT).strip()
        port = int(known) if known.isdecimal() else 0
        if port and self._processes:  # it is theirs, or will be free in a moment
            return Address(host, port)
        try:
            return probe_port(Address(host, port))
        except BalancerError:
            return probe_port(Address(host, 0))

    def keep(self, table: Table) -> None:
        """For the next start or reload, by whomever."""
        self._write(HOSTS, map_text(table.hosts))
        self._write(KEYS, map_text(table.keys))
        self._bound_log()

    def _bound_log(self) -> None:
        """HAProxy appends, so that cutting the file off is safe; the last megabyte is kept beside it."""
        if self._log_end() > _LOG_BYTES:
            with contextlib.suppress(BalancerError):  # a full disk is a reason more to cut it off
                self._write(f"{LOG}.1", self._text(LOG)[-_LOG_BYTES:])
            os.truncate(self.folder / LOG, 0)

    def _log_end(self) -> int:
        log = self.folder / LOG
        return log.stat().st_size if log.exists() else 0

    def _complaints(self, begin: int) -> str:
        """HAProxy's alerts since then, in one line."""
        alerts = re.findall(r"^\[ALERT\]\s+\(\d+\) : (.*)$", self._text(LOG)[begin:], re.MULTILINE)
        return "; ".join(dict.fromkeys(alerts))

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _write(self, name: str, text: str) -> None:
        if self._written.get(name) == text and (self.folder / name).exists():
            return
        fresh = self.folder / f"{name}.new"
        try:
            fresh.touch(mode=0o600)
            fresh.write_text(text)
            fresh.replace(self.folder / name)
        except OSError as error:
            raise BalancerError(f"cannot write {self.folder / name}: {error.strerror}") from error
        self._written[name] = text

    def _configure_if_possible(self, gateway: Gateway, table: Table) -> None:
        """Where nothing can be written, what was started last will do: the servers are mended at once."""
        try:
            self._configure(gateway, table)
        except BalancerError:
            if not self.runs(gateway):
                raise

    def _configure(self, gateway: Gateway, table: Table) -> None:
        self.keep(table)
        self._write(PORT, f"{gateway.address.port}\n")
        self._write(CONFIG, identity(gateway) + render(gateway, table))

    # --- processes ---

    async def find(self) -> bool:
        """Take over what runs in the folder. A worker without its master is sent away."""
        try:
            self._hold(await self._workers())
        except (BalancerError, ProcessLookupError):
            await self._end_orphan()
            return False
        return True

    async def start(self, gateway: Gateway, table: Table) -> None:
        """Begin from nothing. BalancerError if it can't listen, before anything is changed."""
        await self._free(gateway)
        self._configure_if_possible(gateway, table)
        for name in (MASTER, RUNTIME):  # those of a worker on its way out would answer instead
            (self.folder / name).unlink(missing_ok=True)
        begin = self._log_end()
        arguments = ["-W", "-S", f"unix@{MASTER},mode,600", "-C", str(self.folder), "-f", CONFIG]
        master = Process(spawn(self._binary, arguments, self.folder / LOG))
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._hold(await self._first_answer(master))
        except (TimeoutError, ProcessLookupError, BalancerError) as error:
            await master.end(signal.SIGTERM, patience=_STOP_SECONDS)
            why = self._complaints(begin) or str(error) or "no answer"
            raise BalancerError(
                f"cannot start the gateway: {why}", hint=f"its log is {self.folder / LOG}"
            ) from error
        finally:
            master.close()
        self.gateway = gateway

    async def _first_answer(self, master: Process) -> Workers:
        """Once both master and worker answer, all sockets are in place."""
        while not master.ended:
            try:
                self.connect(lambda _: None).close()
                workers = await self._workers()
            except (OSError, BalancerError):
                await asyncio.sleep(_POLL)
                continue
            if workers.current is not None:
                return workers
        raise BalancerError("it ended at once")

    async def reload(self, gateway: Gateway, table: Table) -> None:
        """Replace the worker. The old one finishes what it has; see haproxy_config on what comes after."""
        running = self._text(CONFIG)
        if f"    bind {gateway.address}\n" not in running:
            probe_port(gateway.address)
        before = await self._workers()
        self._configure(gateway, table)
        begin = self._log_end()
        try:
            async with asyncio.timeout(_START_SECONDS):
                with contextlib.suppress(BalancerError):  # what counts is what became of it
                    await ask_master(self._fd, "reload", patience=_START_SECONDS / 2)
                after = await self._reloaded(before)
        except TimeoutError as error:
            raise BalancerError("cannot reload the gateway: no answer") from error
        self._hold(after)
        if after.failed or after.current in (None, before.current):
            self._write(CONFIG, running)
            raise BalancerError(f"cannot reload the gateway: {self._complaints(begin)}")
        self.gateway = gateway

    async def _reloaded(self, before: Workers) -> Workers:
        """The master executes itself anew, and does not listen meanwhile."""
        while True:
            try:
                now = await self._workers()
            except BalancerError:
                await asyncio.sleep(_POLL)
                continue
            if now.master != before.master:
                raise BalancerError("cannot reload the gateway: HAProxy ended")
            if now.reloads > before.reloads:
                return now
            await asyncio.sleep(_POLL)

    async def gone(self) -> None:
        """Wait until the master has ended."""
        if self._master is not None:
            await self._master.gone()

    def end_workers(self) -> None:
        """After the master's end: let the workers finish what they have, and give the port back."""
        for process in self._processes.values():
            process.send(signal.SIGUSR1)

    async def stop(self) -> None:
        if self._master is not None:
            await self._master.end(signal.SIGTERM, patience=_STOP_SECONDS)
        for process in self._processes.values():
            process.send(signal.SIGKILL)
        for name in (MASTER, RUNTIME):
            (self.folder / name).unlink(missing_ok=True)

    def connect(self, on_trouble: Callable[[str], None]) -> Runtime:
        return Runtime.connect(in_folder(self._fd, RUNTIME), on_trouble)

    async def ask_old(self, command: str) -> list[str]:
        """The answers of the workers that a reload replaced and that still have requests."""
        alive = [pid for pid in self._old if not self._processes[pid].ended]
        return [await self._ask_worker(pid, command) for pid in alive]

    async def _ask_worker(self, pid: int, command: str) -> str:
        try:
            return await ask_master(self._fd, f"@!{pid} {command}")
        except BalancerError:
            if self._processes[pid].ended:  # it went while it was asked
                return ""
            raise

    async def _workers(self) -> Workers:
        return parse_workers(await ask_master(self._fd, "show proc"))

    def _hold(self, workers: Workers) -> None:
        """Keep an eye on these processes and on no others. ProcessLookupError if the master is gone."""
        pids = {workers.master, *workers.old, *([workers.current] if workers.current else [])}
        for pid in self._processes.keys() - pids:
            self._processes.pop(pid).close()
        for pid in pids - self._processes.keys() - {workers.master}:
            with contextlib.suppress(ProcessLookupError):
                self._processes[pid] = Process(pid)
        if workers.master not in self._processes:
            self._processes[workers.master] = Process(workers.master)
        self._master = self._processes[workers.master]
        self._old = tuple(pid for pid in workers.old if pid in self._processes)

    async def _free(self, gateway: Gateway) -> None:
        """The port of a worker on its way out is free in a moment; anybody else's is not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_ORPHAN_SECONDS if self._processes else 0)
        while loop.time() < deadline:
            try:
                probe_port(gateway.address)
            except BalancerError:
                await asyncio.sleep(_POLL)
            else:
                return
        for process in self._processes.values():
            await process.end(signal.SIGKILL, patience=_STOP_SECONDS)
        probe_port(gateway.address)

    async def _end_orphan(self) -> None:
        """A worker whose master was killed ends by itself, but not at once."""
        try:
            runtime = self.connect(lambda _: None)
        except OSError:
            return
        try:
            (answer,) = await runtime.ask(["show info"])
            pid = re.search(r"^Pid: (\d+)", answer, re.MULTILINE)
            if pid:
                self._processes[int(pid[1])] = Process(int(pid[1]))
        except (BalancerError, ProcessLookupError):
            pass
        finally:
            runtime.close()
        self.end_workers()
