"""Golden runs of the platform on this machine: what it does when, in words to review.

A file is blocks with an empty line between them: comments (`#`), commands (see player.py), `----`, and
what came of them. `SCENARIOS=rewrite pytest tests/scenarios` writes the answers anew.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.scenarios.player import Player

FILES = sorted(Path(__file__).parent.glob("*.txt"))
RULE = "----"


async def played(text: str) -> str:
    """The scenario with the answers as they come out now."""
    blocks = []
    async with asyncio.TaskGroup() as group:
        player = Player(group)
        await player.serve()
        for block in text.strip().split("\n\n"):
            lines = block.partition(RULE)[0].splitlines()
            answer = await player.play([line for line in lines if line and not line.startswith("#")])
            blocks.append("\n".join([*lines, RULE, *answer]))
        if player.daemon is not None:
            await player.kill()
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_scenario(path: Path) -> None:
    written = path.read_text()
    now = await played(written)
    if os.environ.get("SCENARIOS") == "rewrite":
        path.write_text(now)
    else:
        assert now.splitlines() == written.splitlines()
