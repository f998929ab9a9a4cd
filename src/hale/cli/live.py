"""The live view: one screen of a deployment, whatever its size. `screen` is pure; `Live` draws it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Group
from rich.text import Text

from hale.cli import output, preparing, words
from hale.cli.answers import Check, Replica
from hale.cli.follow import Snapshot
from hale.cli.now import now
from hale.cli.screens import STYLES, cell, event_line, styled
from hale.core.words import outcome

_EVENTS = 5
_MOST_EVENTS = 8
"""Lines that events get at least, and at most, if there are so many."""

_RANK: Mapping[str, int] = {
    "backoff": 0,
    "starting": 1,
    "unready": 2,
    "pending": 3,
    "draining": 4,
    "stopping": 5,
}


class View(Protocol):
    """Shows one snapshot after the other."""

    def show(self, snapshot: Snapshot, note: str = "") -> None: ...


class LineView:
    """For pipes and logs: a line for each event."""

    def show(self, snapshot: Snapshot, note: str = "") -> None:
        ids = words.short_ids(replica.id for replica in snapshot.health.replicas)
        for event in snapshot.fresh:
            output.print_line(event_line(event, ids).plain.rstrip())
        output.flush()


@contextmanager
def view() -> Iterator[View]:
    """The view that standard output can carry, taken away again at the end."""
    console = output.console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineView()
        return
    from rich.live import Live  # noqa: PLC0415 # slow to import

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        class Drawn:
            def show(self, snapshot: Snapshot, note: str = "") -> None:
                size = console.size
                live.update(screen(snapshot, note, now(), size.width, size.height - 1), refresh=True)

        yield Drawn()


def screen(snapshot: Snapshot, note: str, now: float, width: int, height: int) -> Group:
    """At most `height` lines of `width`: what is, what is the matter, what happened last."""
    head = _head(snapshot, now, width)
    foot = [Text(), cell(note, "dim")] if note else []
    room = max(0, height - len(head) - len(foot))
    wanted = min(len(snapshot.events), _EVENTS)
    replicas = _replicas(snapshot, now, room - (wanted + 1 if wanted else 0))
    left = min(room - len(replicas) - 1, _MOST_EVENTS)
    ids = words.short_ids(replica.id for replica in snapshot.health.replicas)
    latest = snapshot.events[-left:] if left > 0 else ()
    events = [event_line(event, ids) for event in latest]
    lines = [*head, *replicas, *([Text(), *events] if events else []), *foot]
    return Group(*(_fit(line, width) for line in lines[:height]))


def _fit(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(width, overflow="ellipsis")
    return line


def _head(snapshot: Snapshot, now: float, width: int) -> list[Text]:
    deployment, health = snapshot.deployment, snapshot.health
    status = styled(words.status(deployment, health.ready, health.preparation))
    lines = [
        cell(deployment.name, "bold"),
        cell(words.url(health.endpoint), "underline"),
        Text.assemble(f"revision {health.revision}, ", status, f": {words.readiness(deployment, health)}"),
    ]
    # Where it is tried again is the place for the whole of it.
    if deployment.error and not (health.preparation and health.preparation.error == deployment.error):
        lines.append(cell(words.line(deployment.error), "red"))
    if health.preparation is not None:
        lines += [Text(), *preparing.lines(health.preparation, now, width)]
    return [*lines, Text()]


def _replicas(snapshot: Snapshot, now: float, room: int) -> list[Text]:
    """A line or two for each; where there are too many, for those that matter, and a count of the others."""
    replicas = snapshot.health.replicas
    ids = words.short_ids(replica.id for replica in replicas)
    blocks = {replica.id: _block(ids[replica.id], replica, now) for replica in replicas}
    if sum(map(len, blocks.values())) <= room:
        return [line for replica in replicas for line in blocks[replica.id]]
    ranked = sorted(replicas, key=_rank)
    shown: list[Text] = []
    for index, replica in enumerate(ranked):
        if len(shown) + len(blocks[replica.id]) > room - 1:
            return [*shown, _others(ranked[index:])]
        shown += blocks[replica.id]
    return shown


def _rank(replica: Replica) -> int:
    failing = any(words.failures(check) for check in replica.checks.values())
    return _RANK.get(replica.phase, 6 if failing else 7)


def _others(replicas: Sequence[Replica]) -> Text:
    phases = [replica.phase for replica in replicas]
    counts = ", ".join(f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases))
    return cell(f"… and {counts}", "dim")


def _block(short: str, replica: Replica, now: float) -> list[Text]:
    state = cell(f"{words.state(replica, now, brief=True):20} ", STYLES.get(replica.phase, ""))
    restarts = words.counted(replica.restarts, "restart") if replica.restarts else ""
    matter = Text("  ").join(filter(None, [_matter(replica), Text(restarts, "yellow")]))
    line = Text.assemble((f"{short}  ", "bold"), state, matter)
    coming = words.coming(replica, now)
    return [line, cell(f"{'':{len(short)}}  {coming}", "dim")] if coming else [line]


def _matter(replica: Replica) -> Text:
    """The check that says most about the replica's state, or that all is well."""
    checks = list(replica.checks.values())
    if replica.leaving or replica.phase in {"backoff", "pending"} or not checks:
        return Text()
    bad = [check for check in checks if check.verdict != "passing" or words.failures(check)]
    if not bad:
        return cell(f"{words.counted(len(checks), 'check')} passing", "dim")
    return cell(_said(bad[0]), STYLES["failing" if bad[0].verdict == "failing" else "unknown"])


def _said(check: Check) -> str:
    last = words.line(outcome(check.results[0])) if check.results else "not checked yet"
    return f"{check.kind} {last}"
