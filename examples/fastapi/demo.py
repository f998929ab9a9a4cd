"""`make demo`: an S3 server with a model in it, and `hale up` on the example beside this file.

Everything lives in a temporary folder and ends with Ctrl-C, SIGTERM or the closing of the terminal; a
hale that you run yourself is not touched. `make demo ARGS=8090` has the gateway on another port.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3_server import S3Server, at_our_end, free_port

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SPEC = HERE / "hale.yaml"
BUCKET, MODEL = "iris", HERE / "iris.json"
EXAMPLE_S3 = "http://127.0.0.1:9000"
GATEWAY_PORT = 8080
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

TO_TRY = """\
hale's demo: {here}/app.py twice, its model in a real S3 server.
Ctrl-C ends all of it. Once they are ready, from another terminal:

  curl http://iris.localhost:{port}/predict/ -H 'Content-Type: application/json' \\
  -d '{{"sepal_length":6.3,"sepal_width":3.3,"petal_length":6,"petal_width":2.5}}'
  ls {bucket}/predictions

  kill -STOP {s3_pid}    # S3 hangs: within 35 s both replicas leave traffic
  kill -CONT {s3_pid}    # and come back

  export HALE_DATA={data}
  {hale} get iris
  {hale} events iris

"""


class Foreground:
    """Runs one program until it ends; a stop signal becomes Ctrl-C for it, and nothing else.

    The program gets a session of its own, so that a Ctrl-C in the terminal reaches it once, through here.
    When we are killed it gets its Ctrl-C from the kernel.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)

    def run(self, command: list[str], env: Mapping[str, str]) -> int:
        if self.stopping:
            return 0
        self._process = subprocess.Popen(
            command, env=env, start_new_session=True, preexec_fn=at_our_end(signal.SIGINT)
        )
        if self.stopping:  # a signal came while it was being started
            self._process.send_signal(signal.SIGINT)
        return self._process.wait()

    def _stop(self, *_: object) -> None:
        self.stopping = True
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)


def free_or(port: int) -> int:
    """The port, or another one if somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return free_port()
    return port


def spec_for(s3_url: str, folder: Path) -> Path:
    """A copy of the spec that names this S3 server and finds app.py where it is."""
    text = SPEC.read_text()
    if EXAMPLE_S3 not in text:
        raise SystemExit(f"cannot start the demo: {SPEC} does not say {EXAMPLE_S3}")
    copy = folder / "hale.yaml"
    copy.write_text(text.replace(EXAMPLE_S3, s3_url) + f"hale:\n  workdir: {json.dumps(str(HERE))}\n")
    return copy


def environment() -> dict[str, str]:
    """Ours, less what would lead hale to another daemon, with the programs of this venv."""
    env = {name: value for name, value in os.environ.items() if name not in ("HALE_API_URL", "HALE_TOKEN")}
    return env | {"PATH": f"{BIN}{os.pathsep}{env.get('PATH', os.defpath)}", "VIRTUAL_ENV": str(BIN.parent)}


def hale_up(spec: Path, data: Path, port: int) -> list[str]:
    """The command that does it all: applies the spec, shows what happens, and stops it in the end."""
    addresses = ["--api", "127.0.0.1:0", "--gateway", f"127.0.0.1:{port}"]
    return [sys.executable, "-m", "hale.cli.main", "up", str(spec), "--data", str(data), *addresses]


def shortest(path: Path) -> Path:
    """The path as seen from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def to_try(s3: S3Server, data: Path, port: int) -> str:
    here, hale = shortest(HERE), shortest(BIN / "hale")
    bucket = s3.folder / BUCKET
    return TO_TRY.format(here=here, hale=hale, s3_pid=s3.pid, bucket=bucket, data=data, port=port)


def main(wanted: Sequence[str]) -> int:
    foreground = Foreground()
    with tempfile.TemporaryDirectory(prefix="hale-demo-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), int(wanted[0]) if wanted else free_or(GATEWAY_PORT)
        data, s3 = folder / "data", S3Server(folder / "s3")
        s3.put(BUCKET, MODEL.name, MODEL.read_bytes())
        with s3:
            print(to_try(s3, data, port), flush=True)
            code = foreground.run(hale_up(spec_for(s3.url, folder), data, port), environment())
    return 0 if foreground.stopping else code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")
