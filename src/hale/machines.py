"""Machine types: what `resources.machineType` stands for, Gradient's and the operator's own."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from hale.core.deployment import Machine
from hale.errors import RefusedError

_GIB = 1 << 30

# https://docs.digitalocean.com/products/paperspace/machines/details/machine-types/ (edited 17 June 2025):
# vCPUs and GB of RAM; the console shows the same and counts the GB in GiB. C2 is in the console alone.
_CPU_TYPES = {
    "C1": (1, 0.5),
    "C2": (1, 1),
    "C3": (2, 2),
    "C4": (2, 4),
    "C5": (4, 8),
    "C6": (8, 16),
    "C7": (12, 30),
    "C8": (16, 60),
    "C9": (24, 120),
    "C10": (32, 244),
}

# vCPUs and RAM for one GPU, and how many there may be. The page has sizes of those with one GPU; n of them
# have n times as much in the console, but for H100x8, which the page has.
_GPU_TYPES = {
    "GPU+": (8, 30, (1, 2, 4)),
    "P4000": (8, 30, (1, 2, 4)),
    "P5000": (8, 30, (1, 2, 4)),
    "P6000": (8, 30, (1, 2, 4)),
    "RTX4000": (8, 30, (1, 2, 4)),
    "RTX5000": (8, 30, (1, 2, 4)),
    "V100": (8, 30, (1, 2, 4)),
    "V100-32G": (8, 30, (1, 2, 4)),
    "A4000": (8, 45, (1, 2, 4)),
    "A5000": (8, 45, (1, 2, 4)),
    "A6000": (8, 45, (1, 2, 4)),
    "A100": (12, 90, (1, 2, 4, 8)),
    "A100-80G": (12, 90, (1, 2, 4, 8)),
    "H100": (20, 250, (1,)),
}

_KEYS = ("cpus", "memory", "gpus")
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT])iB", re.ASCII)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": _GIB, "T": 1 << 40}
_LEAST_MEMORY = 6 << 20
"""Docker takes no lower limit."""
_MOST_MEMORY = 1 << 60
_MOST = 10_000
"""CPUs or GPUs: more is a slip of the keyboard."""


def _gradient() -> Iterator[Machine]:
    for name, (cpus, gib) in _CPU_TYPES.items():
        yield Machine(name, cpus, int(gib * _GIB))
    for name, (cpus, gib, counts) in _GPU_TYPES.items():
        for count in counts:
            full = name if count == 1 else f"{name}x{count}"
            yield Machine(full, cpus * count, gib * count * _GIB, count)
    yield Machine("H100x8", 128, 2048 * _GIB, 8)


GRADIENT: Mapping[str, Machine] = MappingProxyType({machine.name: machine for machine in _gradient()})
"""The machine types of Paperspace Gradient whose sizes are public, by name."""


def read(path: Path) -> Mapping[str, Machine]:
    """Gradient's types and those of a TOML file, which go before; RefusedError with all that is wrong in it.

    A type of the file is taken as it is there: without `cpus` or `memory` it has no such limit.
    """
    doing = f"cannot read machine types from {path}"
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise RefusedError(f"{doing}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{doing}: not UTF-8", hint="save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:  # not TOML, or a number of 5,000 digits
        raise RefusedError(f"{doing}: not TOML: {error}") from error
    if problems := list(_problems(document)):
        hint = (
            'an entry looks like [machines.C4] cpus = 2, memory = "4 GiB", gpus = 0, each key on its own line'
        )
        raise RefusedError(f"{doing}: {'; '.join(problems)}", hint=hint)
    own = {name: _machine(name, table) for name, table in document.get("machines", {}).items()}
    return MappingProxyType({**GRADIENT, **own})


def _machine(name: str, table: Mapping[str, object]) -> Machine:
    """The type of a table in which nothing is wrong."""
    cpus, gpus = table.get("cpus"), table.get("gpus", 0)
    return Machine(
        name,
        cpus=float(cpus) if isinstance(cpus, int | float) else None,
        memory=_bytes(table.get("memory")),
        gpus=gpus if isinstance(gpus, int) else 0,
    )


def _problems(document: Mapping[str, object]) -> Iterator[str]:
    for key, value in document.items():
        if key != "machines":
            yield f"{key}: unknown key, allowed here: machines"
        elif not isinstance(value, dict):
            yield "machines: must be a table of machine types"
        else:
            for name, table in value.items():
                yield from _problems_of(f"machines.{name}", table)


def _problems_of(key: str, table: object) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{key}: must be a table"
        return
    for name in table:
        if name not in _KEYS:
            yield f"{key}.{name}: unknown key, allowed here: {', '.join(_KEYS)}"
    cpus, gpus, memory = table.get("cpus", 1), table.get("gpus", 0), table.get("memory", "1 GiB")
    if isinstance(cpus, bool) or not isinstance(cpus, int | float) or not 0.01 <= cpus <= _MOST:
        yield f"{key}.cpus: must be a number from 0.01 to {_MOST}, not {_shown(cpus)}"
    if isinstance(gpus, bool) or not isinstance(gpus, int) or not 0 <= gpus <= _MOST:
        yield f"{key}.gpus: must be a whole number from 0 to {_MOST}, not {_shown(gpus)}"
    size = _bytes(memory)
    if size is None:
        yield f'{key}.memory: must be a size like "512 MiB" or "8 GiB", not {_shown(memory)}'
    elif not _LEAST_MEMORY <= size <= _MOST_MEMORY:
        yield f"{key}.memory: must be from 6 MiB to {_MOST_MEMORY >> 40} TiB, not {memory}"


def _bytes(text: object) -> int | None:
    found = _MEMORY.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    size = float(found[1]) * _UNITS[found[2]]
    return int(size) if math.isfinite(size) else _MOST_MEMORY + 1


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:60]}…"
