"""Draw docs/live.svg, the picture of `hale up`, from a deployment that runs: draw_live.py NAME [DATA].

It waits until a readiness check has failed twice: take S3 away from `make demo` (`kill -STOP`) first.
"""

import os
import re
import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from hale.cli.client import Client, find_in
from hale.cli.follow import Snapshot, Wakes, snapshots
from hale.cli.live import screen
from hale.cli.now import now
from hale.cli.remote import Remote, data_dir

PICTURE = Path(__file__).with_name("live.svg")
WIDTH, HEIGHT = 96, 22


def telling(name: str, data: Path) -> Snapshot:
    """The moment at which there is something to see."""
    with closing(Client(find_in(data))) as client:
        hale = Remote(client)
        looks = snapshots(hale, hale.named(name, None).id, 0, Wakes())
        return next(look for look in looks if _both_failing(look))


def _both_failing(look: Snapshot) -> bool:
    return sum("readiness check failed 2 of 3" in event.message for event in look.events[-2:]) == 2


def drawn(snapshot: Snapshot) -> str:
    """The screen as SVG, with the reader's own fonts: nothing is fetched to show it."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(screen(snapshot, "Ctrl-C stops it.", now(), WIDTH, HEIGHT))
    svg = re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="hale up"), flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, DejaVu Sans Mono, monospace")


if __name__ == "__main__":
    PICTURE.write_text(drawn(telling(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else data_dir(None))))
