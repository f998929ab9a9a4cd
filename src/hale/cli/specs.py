"""Specs from files, folders and standard input: checked here first, so that errors have their place."""

import sys
from pathlib import Path

from hale.cli import output, words
from hale.cli.answers import JSON
from hale.spec import compile as compiled
from hale.spec import unsupported
from hale.spec.load import find, home, load_file, load_text
from hale.spec.problems import SpecError
from hale.spec.schema import Spec

STDIN = "-"


def read(given: str | None, name: str | None) -> JSON:
    """The config to send. Without a `hale.workdir` it gets the spec's folder."""
    spec, folder = load(given, name)
    if refused := unsupported.refusals(spec):
        raise SpecError(refused, doing="apply")
    if spec.hale is None or spec.hale.workdir is None:
        spec = spec.changed(workdir=str(folder))
    return spec.data()


def validate(given: str, name: str | None) -> None:
    """Say that the spec is valid, or why not; what can't be done with it here is a note."""
    spec, _ = load(given, name)
    for note in [*map(str, unsupported.refusals(spec)), *unsupported.notes(spec)]:
        output.say(f"note: {note}")
    count = words.counted(compiled.replicas(spec), "replica")
    output.print_line(f"valid: {words.line(spec.name)}, {count}")


def load(given: str | None, name: str | None) -> tuple[Spec, Path]:
    """The spec, and the folder that it speaks for."""
    if given == STDIN:
        text = sys.stdin.buffer.read()
        return load_text(text, format=_format(text), filename="stdin", name=name), Path.cwd()
    file = _file(given)
    return load_file(file, name=name), home(file)


def _file(given: str | None) -> Path:
    if given is None:
        here = Path.cwd()
        return find(here).relative_to(here)
    return find(Path(given)) if Path(given).is_dir() else Path(given)


def _format(text: bytes) -> str:
    """JSON begins with a brace or a comment of its own; all else is YAML."""
    return "jsonc" if text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"//", b"/*")) else "yaml"
