"""Machine types: Gradient's table, and the operator's file laid over it."""

from pathlib import Path

import pytest

from hale.core.deployment import Machine
from hale.errors import RefusedError
from hale.machines import GRADIENT, read
from hale.settings import Settings

GIB = 1 << 30


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "machines.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    path = file(folder, text)
    with pytest.raises(RefusedError) as error:
        read(path)
    doing = f"cannot read machine types from {path}: "
    assert error.value.message.startswith(doing)
    return error.value.message.removeprefix(doing)


@pytest.mark.parametrize(
    ("name", "cpus", "gib", "gpus"),
    [
        ("C1", 1, 0.5, 0),
        ("C4", 2, 4, 0),
        ("C10", 32, 244, 0),
        ("GPU+", 8, 30, 1),
        ("P4000x2", 16, 60, 2),
        ("A4000", 8, 45, 1),
        ("V100-32Gx4", 32, 120, 4),
        ("A100-80G", 12, 90, 1),
        ("A100-80Gx8", 96, 720, 8),
        ("H100", 20, 250, 1),
        ("H100x8", 128, 2048, 8),
    ],
)
def test_the_types_of_gradient_have_their_public_sizes(name: str, cpus: int, gib: float, gpus: int) -> None:
    assert GRADIENT[name] == Machine(name, cpus, int(gib * GIB), gpus)


def test_every_type_is_found_under_its_own_name() -> None:
    assert all(machine.name == name for name, machine in GRADIENT.items())


def test_types_of_the_file_go_before_and_the_others_stay(tmp_path: Path) -> None:
    text = (
        '[machines.C4]\ncpus = 1.5\nmemory = "512 MiB"\n'
        '[machines."my own"]\nmemory = "1.5GiB"\ngpus = 2\n'
        "[machines.free]\n"
    )
    machines = read(file(tmp_path, text))
    assert machines["C4"] == Machine("C4", 1.5, 512 << 20, 0)
    assert machines["my own"] == Machine("my own", None, 3 * GIB // 2, 2)
    assert machines["free"] == Machine("free")
    assert machines["C5"] == GRADIENT["C5"]
    assert GRADIENT["C4"].cpus == 2


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read(file(tmp_path, "")) == GRADIENT


def test_the_settings_have_the_types_of_gradient() -> None:
    assert Settings().machines == GRADIENT
    assert len(repr(Settings())) < 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[machines.C4]\ncpus = 0", "machines.C4.cpus: must be a number from 0.01 to 10000, not 0"),
        ("[machines.C4]\ncpus = true", "machines.C4.cpus: must be a number from 0.01 to 10000, not true"),
        ("[machines.C4]\ncpus = nan", "machines.C4.cpus: must be a number from 0.01 to 10000, not nan"),
        ("[machines.C4]\ncpus = '2'", 'machines.C4.cpus: must be a number from 0.01 to 10000, not "2"'),
        ("[machines.C4]\ngpus = -1", "machines.C4.gpus: must be a whole number from 0 to 10000, not -1"),
        ("[machines.C4]\ngpus = 1.0", "machines.C4.gpus: must be a whole number from 0 to 10000, not 1.0"),
        (
            "[machines.C4]\ngpus = false",
            "machines.C4.gpus: must be a whole number from 0 to 10000, not false",
        ),
        (
            "[machines.C4]\nmemory = '8 GB'",
            'machines.C4.memory: must be a size like "512 MiB" or "8 GiB", not "8 GB"',
        ),
        (
            "[machines.C4]\nmemory = 8",
            'machines.C4.memory: must be a size like "512 MiB" or "8 GiB", not 8',
        ),
        (
            "[machines.C4]\nmemory = '5 MiB'",
            "machines.C4.memory: must be from 6 MiB to 1048576 TiB, not 5 MiB",
        ),
        ("[machines.C4]\nram = 8", "machines.C4.ram: unknown key, allowed here: cpus, memory, gpus"),
        ("machines.C4 = 8", "machines.C4: must be a table"),
        ("machines = 8", "machines: must be a table of machine types"),
        ("[C4]\ncpus = 2", "C4: unknown key, allowed here: machines"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text) == said


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, "[machines.A]\ncpus = 0\ngpus = -1\n[machines.B]\nmemory = ''\n[x]")
    assert [each.partition(":")[0] for each in said.split("; ")] == [
        "machines.A.cpus",
        "machines.A.gpus",
        "machines.B.memory",
        "x",
    ]


def test_a_number_without_end_is_too_much_memory(tmp_path: Path) -> None:
    assert "must be from 6 MiB" in refused(tmp_path, f"[machines.A]\nmemory = '{'9' * 400} TiB'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[machines", "not TOML: "),
        ("a = " + "9" * 5000, "not TOML: "),
        (b"\xff", "not UTF-8"),
        ("a = " + "[" * 100_000, "not TOML: "),
    ],
)
def test_a_file_that_cannot_be_read_as_toml_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refused(tmp_path, text).startswith(said)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"machines\.toml: no such file or directory"):
        read(tmp_path / "machines.toml")
