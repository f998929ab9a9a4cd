"""Small fast programs to measure against: in C if there is a compiler, else in Python."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_FILES = 16_384


@dataclass(frozen=True, slots=True)
class Programs:
    """How to start the server and the bare loop, and what they are written in."""

    answers: list[str]
    bare: list[str]
    language: str

    @classmethod
    def made(cls, folder: Path) -> "Programs":
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            answers, bare = ([sys.executable, str(_HERE / f"{name}.py")] for name in ("answers", "bare"))
            return cls(answers, bare, "Python: there is no C compiler")
        for name in ("answers", "bare"):
            subprocess.run([compiler, "-O2", "-o", folder / name, _HERE / f"{name}.c"], check=True)
        return cls([str(folder / "answers")], [str(folder / "bare")], "C")


@contextmanager
def answering(programs: Programs, count: int = 1) -> Iterator[list[int]]:
    """The ports of a server that answers every request alike, and ends with its standard input."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))
    process = subprocess.Popen(
        [*programs.answers, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield [int(port) for port in process.stdout.readline().split()]
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
