"""A replica for end-to-end tests: answers at once, and is told by requests how to behave.

    GET  /                          who answers: {"replica", "pid", "port", "version", "requests", "checks",
                                    "holding"}
    GET  /slow?seconds=2            the same, later
    any  /held                      the same, once it is released; `holding` counts those that wait
    GET  /stream?chunks=5&seconds=1 a chunked answer, one chunk a second
    GET  /events?count=3            server-sent events, each after the first once it is released
    GET  /sized?bytes=1000          an answer as long as that
    any  /digest                    {"bytes", "sha256"} of the body
    any  /echo                      what came in: method, path, headers, body
    GET  /startup /readiness /liveness    200, or what it was told
    POST /tell?readiness=503        answer this check so from now on
    POST /tell?hang=liveness        never answer it again
    POST /tell?release=2            let go of so many that are held
    POST /tell?deaf=1               listen no more, but run on
    POST /exit?code=3               end at once

Options: --starts-after S listens only after S seconds, --ignore-sigterm, --exit-after S, --fork (the
replica is left by its first process), --readiness 503 and so on to begin with.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CHECKS = ("startup", "readiness", "liveness")
BLOCK = bytes(range(256)) * 256
"""What large answers are made of."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Behaviour:
    """What the replica answers to its checks, how many of them and of requests it has had, what it holds."""

    def __init__(self, answers: dict[str, int]) -> None:
        self.answers = answers
        self.hanging: set[str] = set()
        self.requests = 0
        self.checks = dict.fromkeys(CHECKS, 0)
        self.holding = 0
        self.released = threading.Semaphore(0)

    def hold(self) -> None:
        self.holding += 1
        self.released.acquire()
        self.holding -= 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"
    behaviour: Behaviour

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        name = parts.path.strip("/")
        if name in CHECKS:
            self._check(name)
        else:
            known = {
                "echo": self._echo,
                "digest": self._digest,
                "stream": self._stream,
                "events": self._events,
                "sized": self._sized,
                "tell": self._tell,
                "exit": self._exit,
                "held": self._held,
            }
            known.get(name, self._plain)(query)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 # the names that http.server calls

    def _check(self, name: str) -> None:
        self.behaviour.checks[name] += 1
        while name in self.behaviour.hanging:
            time.sleep(0.05)
        status = self.behaviour.answers[name]
        self._answer(status, f"{name} is {status}")

    def _plain(self, query: dict[str, str]) -> None:
        self.behaviour.requests += 1
        time.sleep(float(query.get("seconds", "0")))
        self._answer(200, self._who())

    def _held(self, _: dict[str, str]) -> None:
        self.behaviour.requests += 1
        self.behaviour.hold()
        self._answer(200, self._who())

    def _exit(self, query: dict[str, str]) -> None:
        os._exit(int(query.get("code", "0")))

    def _tell(self, query: dict[str, str]) -> None:
        self.behaviour.hanging.update(value for key, value in query.items() if key == "hang")
        self.behaviour.answers.update({name: int(query[name]) for name in CHECKS if name in query})
        for _ in range(int(query.get("release", "0"))):
            self.behaviour.released.release()
        if "deaf" in query:
            self.server.shutdown()
            self.server.server_close()
        self._answer(200, "told")

    def _who(self) -> dict[str, Any]:
        return {
            "replica": f"{os.getpid()}:{self.server.server_address[1]}",
            "pid": os.getpid(),
            "port": self.server.server_address[1],
            "version": os.environ.get("VERSION", ""),
            "requests": self.behaviour.requests,
            "checks": self.behaviour.checks,
            "holding": self.behaviour.holding,
        }

    def _echo(self, _: dict[str, str]) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(200, {"method": self.command, "path": self.path, "headers": headers, "body": body})

    def _digest(self, _: dict[str, str]) -> None:
        left = int(self.headers.get("content-length", "0"))
        seen, digest = 0, hashlib.sha256()
        while seen < left:
            part = self.rfile.read(min(left - seen, 1 << 20))
            if not part:
                break
            seen += len(part)
            digest.update(part)
        self._answer(200, {"bytes": seen, "sha256": digest.hexdigest()})

    def _sized(self, query: dict[str, str]) -> None:
        length = int(query.get("bytes", "0"))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        while length > 0:
            self.wfile.write(BLOCK[:length])
            length -= len(BLOCK)

    def _stream(self, query: dict[str, str]) -> None:
        self._begin("text/plain")
        for number in range(int(query.get("chunks", "3"))):
            self._chunk(f"chunk {number}\n".encode())
            time.sleep(float(query.get("seconds", "0.1")))
        self._chunk(b"")

    def _events(self, query: dict[str, str]) -> None:
        self._begin("text/event-stream")
        for number in range(int(query.get("count", "3"))):
            if number:
                self.behaviour.hold()
            self._chunk(f"data: {number}\n\n".encode())
        self._chunk(b"")

    def _begin(self, kind: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: {kind}\r\n\r\n"
        self.wfile.write(head.encode())

    def _chunk(self, chunk: bytes) -> None:
        """One chunk; an empty one is the end."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def _answer(self, status: int, value: object) -> None:
        """Head and body in one write."""
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += f"X-Replica: {os.getpid()}\r\nX-Version: {os.environ.get('VERSION', '')}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # http.server's own name
        say(format % args)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request: object, client_address: object) -> None:
        """That checks and the gateway break connections off is nothing to tell."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts-after", type=float, default=0.0)
    parser.add_argument("--exit-after", type=float)
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--fork", action="store_true")
    for check in CHECKS:
        parser.add_argument(f"--{check}", type=int, default=200)
    options = parser.parse_args()
    say(f"replica {os.getpid()} starts on port {os.environ['PORT']}")
    if options.fork and os.fork():
        sys.exit(0)
    if options.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.exit_after is not None:
        threading.Timer(options.exit_after, os._exit, [1]).start()
    time.sleep(options.starts_after)
    Handler.behaviour = Behaviour({check: getattr(options, check) for check in CHECKS})
    Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])), Handler).serve_forever()
    while True:  # deaf
        signal.pause()


if __name__ == "__main__":
    main()
