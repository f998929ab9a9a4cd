"""A replica for end-to-end tests: answers at once, and is told by requests how to behave.

    GET  /                          who answers: {"replica", "pid", "port", "version", "requests"}
    GET  /slow?seconds=2            the same, later
    GET  /stream?chunks=5&seconds=1 a chunked answer, one chunk a second
    any  /echo                      what came in: method, path, headers, body
    GET  /startup /readiness /liveness    200, or what it was told
    POST /tell?readiness=503        answer this check so from now on
    POST /tell?hang=liveness        never answer it again
    POST /exit?code=3               end at once

Options: --starts-after S listens only after S seconds, --ignore-sigterm, --exit-after S, --fork (the
replica is left by its first process), --readiness 503 and so on to begin with.
"""

import argparse
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


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Behaviour:
    """What the replica answers to its checks, and how many requests it has had."""

    def __init__(self, answers: dict[str, int]) -> None:
        self.answers = answers
        self.hanging: set[str] = set()
        self.requests = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    behaviour: Behaviour

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        name = parts.path.strip("/")
        if name in CHECKS:
            self._check(name)
        elif name == "echo":
            self._echo()
        elif name == "stream":
            self._stream(int(query.get("chunks", "3")), float(query.get("seconds", "0.1")))
        elif name == "tell":
            self._tell(query)
        elif name == "exit":
            os._exit(int(query.get("code", "0")))
        else:
            time.sleep(float(query.get("seconds", "0")))
            self.behaviour.requests += 1
            self._answer(200, self._who())

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 # the names that http.server calls

    def _check(self, name: str) -> None:
        while name in self.behaviour.hanging:
            time.sleep(0.05)
        status = self.behaviour.answers[name]
        self._answer(status, f"{name} is {status}")

    def _tell(self, query: dict[str, str]) -> None:
        self.behaviour.hanging.update(value for key, value in query.items() if key == "hang")
        self.behaviour.answers.update({name: int(query[name]) for name in CHECKS if name in query})
        self._answer(200, "told")

    def _who(self) -> dict[str, Any]:
        return {
            "replica": f"{os.getpid()}:{self.server.server_address[1]}",
            "pid": os.getpid(),
            "port": self.server.server_address[1],
            "version": os.environ.get("VERSION", ""),
            "requests": self.behaviour.requests,
        }

    def _echo(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._answer(200, {"method": self.command, "path": self.path, "headers": headers, "body": body})

    def _stream(self, chunks: int, pause: float) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n")
        for number in range(chunks):
            chunk = f"chunk {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

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


if __name__ == "__main__":
    main()
