"""Draw a picture of `hale up`, from a deployment that runs: draw_live.py live.svg|pull.svg NAME [DATA].

`live.svg` waits until a readiness check has failed twice: take S3 away from `make demo` (`kill -STOP`) first.
`pull.svg` waits until a third of an image is here: one of some 500 MB, applied after a smaller one.
"""

import os
import re
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from hale.cli.client import Client, find_in
from hale.cli.follow import Snapshot, Wakes, snapshots
from hale.cli.live import screen
from hale.cli.now import now
from hale.cli.remote import Remote, data_dir

HERE = Path(__file__).parent
WIDTH = 96


def telling(name: str, data: Path, moment: Callable[[Snapshot], bool]) -> Snapshot:
    """The moment at which there is something to see."""
    with closing(Client(find_in(data))) as client:
        hale = Remote(client)
        looks = snapshots(hale, hale.named(name, None).id, 0, Wakes())
        return next(look for look in looks if moment(look))


def _both_failing(look: Snapshot) -> bool:
    return sum("readiness check failed 2 of 3" in event.message for event in look.events[-2:]) == 2


def _half_here(look: Snapshot) -> bool:
    known = look.health.preparation
    return known is not None and 3 * known.progress.bytes_done > known.progress.bytes_total > 0


MOMENTS = {"live.svg": (_both_failing, 22), "pull.svg": (_half_here, 18)}
"""What to wait for, and how high a terminal it is shown on."""


def drawn(snapshot: Snapshot, height: int) -> str:
    """The screen as SVG, with the reader's own fonts: nothing is fetched to show it."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(screen(snapshot, "Ctrl-C stops it.", now(), WIDTH, height))
    svg = re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="hale up"), flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, DejaVu Sans Mono, monospace")


if __name__ == "__main__":
    picture, name, *data = sys.argv[1:]
    moment, height = MOMENTS[picture]
    snapshot = telling(name, Path(data[0]) if data else data_dir(None), moment)
    (HERE / picture).write_text(drawn(snapshot, height))
