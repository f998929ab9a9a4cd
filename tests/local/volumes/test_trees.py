"""Trees of any shape can be made read-only and removed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hale.local.volumes import trees

NOBODY = 65534


def deep(folder: Path, levels: int) -> None:
    """A chain of folders that is longer than a path may be."""
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def test_no_tree_is_too_deep_to_be_removed(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 3000)
    trees.remove(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    trees.remove(tmp_path / "nothing")


def test_everything_in_a_tree_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text("x")
    os.mkfifo(tree / "a" / "pipe")
    (tree / "loop").symlink_to(".")
    trees.remove(tree)
    assert list(tmp_path.iterdir()) == []


def test_whose_tree_it_is_can_remove_it_without_any_bits(tmp_path: Path) -> None:
    """As another user than root, for whom bits do not count."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    code = f"""
import os, sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from hale.local.volumes import trees
os.setgid({NOBODY}); os.setuid({NOBODY})
tree = Path({str(tmp_path / "tree")!r})
for name in ("a/b", "c"):
    (tree / name).mkdir(parents=True)
    (tree / name / "file").write_text("x")
trees.make_read_only(tree)
(tree / "c").chmod(0)
try:
    (tree / "a" / "new").write_text("x")
except PermissionError:
    trees.remove(tree)
    sys.exit(0)
sys.exit("it could be written to")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not (tmp_path / "tree").exists()


def test_what_can_be_removed_goes_even_if_not_all_of_it_can(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "mounted").mkdir(parents=True)
    (tree / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "mounted"], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            trees.remove(tree)
        assert not (tree / "other").exists()
    finally:
        subprocess.run(["umount", tree / "mounted"], check=True)


def test_read_only_is_for_what_is_in_the_tree_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "link").symlink_to(tmp_path / "outside")
    (tree / "deep" / "run").write_text("x")
    (tree / "deep" / "run").chmod(0o700)
    (tree / "deep" / "secret").write_text("x")
    (tree / "deep" / "secret").chmod(0o600)
    before = (tmp_path / "outside").stat().st_mode
    trees.make_read_only(tree)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tree, *tree.rglob("*"))}
    assert {name: modes[name] for name in ("tree", "deep", "run", "secret")} == {
        "tree": 0o555,
        "deep": 0o555,
        "run": 0o555,
        "secret": 0o444,
    }
    assert (tmp_path / "outside").stat().st_mode == before
