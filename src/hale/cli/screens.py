"""What commands show, as Rich renderables. Pure: values and `now` come in, nothing is printed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hale.cli import preparing, words
from hale.cli.answers import Check, Deployment, Health, Registry, Replica, Revision, SecretEntry
from hale.core.event import Cause, Event, Level

if TYPE_CHECKING:
    from rich.console import RenderableType

_BESIDE_URL = 50
"""Columns that a URL leaves to the others; the rest of the terminal is its own."""
_WHY = 70
"""Characters of an error in a table: the whole of it is in the events."""

STYLES: Mapping[str, str] = {
    "healthy": "green",
    "ready": "green",
    "passing": "green",
    "failing": "red",
    "failed": "red",
    "unavailable": "red",
    "backoff": "red",
    "degraded": "yellow",
    "rolling out": "yellow",
    "preparing": "yellow",
    "pulling": "yellow",
    "filling": "yellow",
    "waiting": "yellow",
    "starting": "yellow",
    "unready": "yellow",
    "unknown": "yellow",
}
"""Colours repeat what the words say; without them nothing is lost."""


def cell(text: str, style: str = "") -> Text:
    """Text from anywhere, made harmless; never markup."""
    return Text("\n".join(map(words.clean, text.split("\n"))), style=style, overflow="fold")


def styled(word: str, text: str | None = None) -> Text:
    return cell(text or word, STYLES.get(word, ""))


def listing(*columns: str) -> Table:
    """Columns under dim headings. Cells fold in a narrow terminal; nothing is cut off."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def deployments(
    rows: Sequence[tuple[Deployment, Health]], projects: Mapping[str, str], now: float, width: int
) -> "RenderableType":
    """The table of `hale list`; the project is named when there are several."""
    several = len({deployment.project_id for deployment, _ in rows}) > 1
    table = listing("NAME", *(["PROJECT"] if several else []), "STATUS", "READY", "REV", "AGE", "ENDPOINT")
    # The URL is there to be copied: a long name gives way to it.
    longest = max((len(words.url(each.endpoint)) for each, _ in rows), default=0)
    table.columns[-1].width = max(8, min(longest, width - _BESIDE_URL))
    for deployment, health in rows:
        project = [cell(projects.get(deployment.project_id, deployment.project_id))] if several else []
        age = "" if deployment.created_at is None else words.span(now - deployment.created_at)
        table.add_row(
            cell(deployment.name),
            *project,
            styled(words.status(deployment, health.ready, health.preparation)),
            cell(f"{health.ready}/{deployment.wanted if deployment.enabled else 0}"),
            cell(str(health.revision)),
            cell(age),
            cell(words.url(deployment.endpoint)),
        )
    return table


def deployment_screen(deployment: Deployment, health: Health, now: float) -> "RenderableType":
    """The screen of `hale get`: the deployment, then each replica with its checks and what comes next."""
    ids = words.short_ids(replica.id for replica in health.replicas)
    parts: list[RenderableType] = [_heading(deployment, health, now)]
    for replica in health.replicas:
        parts += [Text(), _replica(ids[replica.id], replica, health.revision, now)]
    return Group(*parts)


def _heading(deployment: Deployment, health: Health, now: float) -> "RenderableType":
    grid = _grid(9)
    grid.add_row(cell("name", "dim"), cell(deployment.name, "bold"))
    status = words.status(deployment, health.ready, health.preparation)
    grid.add_row(cell("status", "dim"), styled(status))
    grid.add_row(cell("endpoint", "dim"), cell(words.url(health.endpoint)))
    since = "not healthy yet"
    if deployment.healthy_at is not None:
        since = f"became healthy {words.ago(deployment.healthy_at, now)}"
    grid.add_row(cell("revision", "dim"), cell(f"{health.revision}, {since}"))
    if deployment.error:
        grid.add_row(cell("error", "dim"), cell(words.line(deployment.error), "red"))
    if health.preparation is not None:
        told = preparing.sentence(health.preparation, now, known=deployment.error)
        grid.add_row(cell("prepares", "dim"), cell(told, "yellow"))
    grid.add_row(cell("replicas", "dim"), cell(words.readiness(deployment, health, "")))
    return grid


def _replica(short: str, replica: Replica, revision: int, now: float) -> "RenderableType":
    headline = Text.assemble((f"{short}  ", "bold"), styled(replica.phase, words.state(replica, now)))
    coming = words.coming(replica, now)
    if coming:
        headline.append(f": {coming}")
    grid = _grid(10, 7)
    if place := _place(replica, revision):
        grid.add_row(cell("runs", "dim"), "", cell(place, "dim"))
    for check in replica.checks.values():
        verdict = styled(check.verdict) if check.results else cell(check.verdict, "dim")
        grid.add_row(cell(check.kind, "dim"), verdict, cell(_said(check, now, coming)))
    if replica.restarts or replica.last_restart:
        grid.add_row(
            cell("restarts", "dim"), cell(str(replica.restarts)), _restarts(replica.last_restart, now)
        )
    return Group(headline, Padding(grid, (0, 0, 0, 2)))


def _place(replica: Replica, revision: int) -> str:
    parts = [f"pid {replica.pid}"] if replica.pid is not None else []
    parts += [f"container {replica.container}"] if replica.container else []
    parts += [replica.address] if replica.address else []
    parts += [f"revision {replica.revision}"] if replica.revision != revision else []
    return ", ".join(parts)


def _said(check: Check, now: float, coming: str) -> str:
    """Its last answer, and how near it is to its verdict, unless the headline says so already."""
    failures = "" if f"{check.kind} failures" in coming else words.failures(check)
    return ", ".join(filter(None, [words.answer(check, now), failures]))


def _restarts(cause: Cause, now: float) -> Text:
    """The chain of what led to the last one, a link a line."""
    if not cause:
        return Text()
    when = words.ago(cause[-1].at, now)
    heading = f"the last {when}:" if when.endswith("ago") else f"{when}:"
    return cell("\n".join([heading, *(words.line(link.message) for link in cause)]))


def _grid(*widths: int) -> Table:
    """Labels of fixed width, then a value that takes the rest."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for width in widths:
        grid.add_column(min_width=width, overflow="fold")
    grid.add_column(overflow="fold")
    return grid


def history(revisions: Sequence[Revision], now: float) -> "RenderableType":
    """The table of `hale history`, newest first."""
    images = any(each.image for each in revisions)
    table = listing("REV", "CREATED", "BECAME", "REPLICAS", *(["IMAGE"] if images else []), "RUNS")
    for each in revisions:
        became, style = _became(each, now)
        table.add_row(
            cell(f"{each.number}{' (current)' if each.current else ''}"),
            cell(words.ago(each.created_at, now)),
            cell(became, style),
            cell("" if each.replicas is None else str(each.replicas)),
            *([cell(words.image(each.image, each.digest))] if images else []),
            cell("" if images and each.runs == each.image else words.line(each.runs)),
        )
    return table


def _became(revision: Revision, now: float) -> tuple[str, str]:
    if revision.healthy_at is not None:
        return f"healthy {words.ago(revision.healthy_at, now)}", "green"
    if revision.error:
        why = words.line(words.hinted(revision.error)[0])
        return f"failed: {why if len(why) <= _WHY else f'{why[: _WHY - 1]}…'}", "red"
    return ("applied", "yellow") if revision.applied_at is not None else ("not applied", "yellow")


def registries(rows: Sequence[Registry], now: float) -> "RenderableType":
    """The table of `hale registry list`."""
    table = listing("NAME", "URL", "USERNAME", "NAMESPACE", "KIND", "CHANGED")
    for each in rows:
        told = (
            each.name,
            each.url,
            each.username,
            each.namespace,
            each.kind,
            words.ago(each.modified_at, now),
        )
        table.add_row(*map(cell, told))
    return table


def secrets(rows: Sequence[SecretEntry], now: float) -> "RenderableType":
    """The table of `hale secret list`."""
    table = listing("NAME", "USED", "CREATED", "CHANGED")
    for each in rows:
        changed = "" if each.modified_at == each.created_at else words.ago(each.modified_at, now)
        used = "yes" if each.used else "no"
        table.add_row(cell(each.name), cell(used), cell(words.ago(each.created_at, now)), cell(changed))
    return table


def event_line(event: Event, ids: Mapping[str, str]) -> Text:
    """One event on one line, without the date: `13:14:02  7f3a91c2  ready, gets traffic`."""
    time, _, rest = words.event(event, ids).partition(" ")[2].partition("  ")
    return Text.assemble((f"{time}  ", "dim"), (rest, "yellow" if event.level is Level.WARNING else ""))
