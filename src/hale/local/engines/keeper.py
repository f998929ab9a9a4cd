"""The keeper: parent of every replica, so that their exit codes are known whoever was away.

One small process for each data folder, run as a file of its own with the standard library alone. It
starts commands on request, reaps them and writes down how they ended; it decides nothing. The daemon
can be killed and come back; if the keeper is killed, replicas go on and their exit codes are not known.
It ends by itself when it has neither a replica nor a daemon.

Requests and answers are JSON, a line each, over a Unix socket in the folder:
  {"do": "start", "attempt", "argv", "env", "cwd", "limit", "record"} -> {"record"} or {"errno", "at"}
  {"do": "end"}                           -> {}, and it ends once it has no replica left
The record in the answer is the one that is kept, with `pid`, `ticks` and `keeper`. An attempt is started
once: asked again, by whomever, the answer is what was recorded.
"""

import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time

VERSION = 1
"""Of the requests. A hale that speaks another one has a keeper of its own beside this one."""
SOCKET, LOCK = f"keeper{VERSION}.sock", f"keeper{VERSION}.lock"
LAUNCH, EXIT, LOG = "launch.json", "exit.json", "log"

_PR_SET_CHILD_SUBREAPER = 36
_LINGER = 3.0
_EXIT_SIZE = 64


def ticks_of(pid: int) -> int:
    """When a process began, in clock ticks since boot: with the pid it names a process for good."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def write(path: str, value: object) -> None:
    """All of it or nothing, also after a power cut."""
    part = f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, json.dumps(value).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(part, path)


def _write_all(descriptor: int, content: bytes) -> None:
    """A disk that is all but full takes a part without a word, and refuses the rest."""
    while content:
        content = content[os.write(descriptor, content) :]


def reserve(path: str) -> None:
    """Take the room on the disk that the end of an attempt will need, whatever fills it meanwhile."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, b"null".ljust(_EXIT_SIZE))
    finally:
        os.close(descriptor)


def fill_in(path: str, value: object) -> None:
    """In place: it is short enough to be written in one go."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _write_all(descriptor, json.dumps(value).encode().ljust(_EXIT_SIZE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str) -> object:
    """None for what is not there, or was not written to its end."""
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


class Keeper:
    """Serves one folder; `attempts` are the folders of the children by their pids."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._attempts: dict[int, str] = {}
        self._ending = False
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        poll = select.epoll()
        poll.register(self._listener, select.EPOLLIN)
        poll.register(self._wake, select.EPOLLIN)
        while not (self._ending and not self._attempts):
            idle = not self._clients and not self._attempts
            ready = poll.poll(_LINGER if idle else None)
            if idle and not ready:
                return
            for descriptor, _ in ready:
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                elif descriptor == self._listener.fileno():
                    client, _ = self._listener.accept()
                    client.settimeout(5)
                    self._clients[client.fileno()] = (client, bytearray())
                    poll.register(client, select.EPOLLIN)
                elif not self._hear(descriptor):
                    poll.unregister(descriptor)
                    self._clients.pop(descriptor)[0].close()
            self._reap()

    def _hear(self, descriptor: int) -> bool:
        """Answer what a client asked; False when it has gone."""
        client, heard = self._clients[descriptor]
        try:
            received = client.recv(1 << 16)
            heard += received
            while b"\n" in heard:
                line, _, rest = heard.partition(b"\n")
                heard[:] = rest
                client.sendall(json.dumps(self._answer(json.loads(line))).encode() + b"\n")
        except (OSError, ValueError):
            return False
        return bool(received)

    def _answer(self, request: dict[str, object]) -> dict[str, object]:
        match request["do"]:
            case "start":
                attempt = str(request["attempt"])
                known = read(f"{attempt}/{LAUNCH}")
                try:
                    return {"record": known} if known else self._start(attempt, request)
                except OSError as error:
                    return {"errno": error.errno, "at": "fork"}
            case "end":
                self._ending = True
        return {}

    def _start(self, attempt: str, request: dict[str, object]) -> dict[str, object]:
        try:
            reserve(f"{attempt}/{EXIT}")
            log = os.open(f"{attempt}/{LOG}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            return {"errno": error.errno, "at": "log"}
        failed, told = os.pipe()
        try:
            pid = os.fork()
            if not pid:
                _become(request, log, told)
        finally:
            os.close(log)
            os.close(told)
            pipe = os.fdopen(failed, "rb")
        with pipe:
            said = pipe.read()
        if said:
            os.waitpid(pid, 0)
            where, _, number = said.decode().partition(" ")
            return {"errno": int(number), "at": where}
        self._attempts[pid] = attempt
        record = request["record"]
        assert isinstance(record, dict)
        record |= {"pid": pid, "ticks": ticks_of(pid), "keeper": os.getpid()}
        try:
            write(f"{attempt}/{LAUNCH}", record)
        except OSError as error:
            os.killpg(pid, signal.SIGKILL)
            return {"errno": error.errno, "at": "record"}
        return {"record": record}

    def _reap(self) -> None:
        """Of children that were born elsewhere (orphans of replicas) nobody asks how they ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            attempt = self._attempts.pop(pid, None)
            if attempt is None:
                continue
            try:
                fill_in(f"{attempt}/{EXIT}", {"code": os.waitstatus_to_exitcode(status), "at": time.time()})
            except OSError as error:
                print(f"cannot write how {attempt} ended: {error}", file=sys.stderr, flush=True)


def _become(request: dict[str, object], log: int, told: int) -> None:
    """In the child: turn into the command, or say why not. Never returns."""
    where = "exec"
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(0o022)
        _mark(request["limit"])
        where = "cwd"
        os.chdir(str(request["cwd"]))
        where = "exec"
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        argv, env = request["argv"], request["env"]
        assert isinstance(argv, list)
        assert isinstance(env, dict)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(told, f"{where} {error.errno or errno.EINVAL}".encode())
    except ValueError:
        os.write(told, f"{where} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def _mark(number: object) -> None:
    """See strays.py; where it may not be set there is the variable still."""
    assert isinstance(number, int)
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (number, resource.getrlimit(resource.RLIMIT_RTTIME)[1]))
    except (OSError, ValueError):
        return


def _subreaper() -> None:
    import ctypes  # noqa: PLC0415  (only for this one call)

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main(folder: str) -> int:
    """Become the keeper of the folder: 0 once it serves (in its own process), 3 if there is one already."""
    # Whatever else was open where it was started is not to stay open as long as replicas run.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 3
    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    os.umask(0o177)
    listener.bind(SOCKET)
    listener.listen(8)
    if os.fork():
        return 0
    os.setsid()
    os.umask(0o077)
    _subreaper()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Keeper(listener).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
