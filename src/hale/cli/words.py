"""What the command line says about a deployment, in words. Pure: `now` is an argument."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from unicodedata import category

from hale.cli.answers import Check, Deployment, Health, Replica
from hale.core.event import Event
from hale.core.image import Preparation
from hale.core.words import duration, outcome

_SHORT = 8
_DIGEST = 12
_CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def clean(text: str) -> str:
    """The text without power over a terminal: control and direction characters are spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char == "\t":
        return "    "
    if category(char) not in _CONTROL or char == "\N{ZERO WIDTH JOINER}":
        return char
    return char.encode("unicode_escape").decode("ascii")


def line(text: str) -> str:
    """The text as one clean line: an answer of several lines reads as one."""
    return clean(" ".join(text.split()))


def hinted(text: str) -> tuple[str, str]:
    """Message and hint of what the API puts into the one text that Gradient's clients can read."""
    message, _, hint = text.partition(" (hint: ")
    return message, hint.removesuffix(")")


def short_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Each id by its shortest beginning of at least eight characters that tells them all apart."""
    every = sorted(set(ids))
    length = _SHORT
    while len({each[:length] for each in every}) < len(every):
        length += 1
    return {each: each[:length] for each in every}


def span(seconds: float) -> str:
    """Whole seconds, minutes or hours: what is looked at again and again must not jitter."""
    whole = max(0, math.floor(seconds))
    return duration(whole) if whole else "0 s"


def lasting(since: float | None, now: float) -> str:
    """How long something has been so, `for 12 min`; nothing when that is not known."""
    return "" if since is None else f"for {span(now - since)}"


def ago(at: float | None, now: float) -> str:
    if at is None:
        return ""
    return f"{span(now - at)} ago" if now - at >= 1 else "just now"


def state(replica: Replica, now: float, *, brief: bool = False) -> str:
    """`ready for 12 min`, `starting for 5 s, not ready`."""
    text = f"{replica.phase} {lasting(replica.since, now)}".rstrip()
    return text if brief or replica.phase in {"ready", "unready"} else f"{text}, not ready"


def answer(check: Check, now: float) -> str:
    """A check's last answer and its age: `503 in 4 ms: "Readiness check failed.", 3 s ago`."""
    if not check.results:
        return "not checked yet"
    last = check.results[0]
    return f"{line(outcome(last))}, {ago(last.at, now)}"


def failures(check: Check) -> str:
    """`2 of 6 failures`, while a streak of them is under way."""
    counting = check.streak and check.results and not _counted(check)
    return f"{min(check.streak, check.threshold)} of {check.threshold} failures" if counting else ""


def _counted(check: Check) -> bool:
    """Whether the streak is one of successes: a failure between the ticks does not count."""
    return next((result.ok for result in check.results if result.ok or not result.eager), True)


def coming(replica: Replica, now: float) -> str:
    """What happens next: `next restart in 14 s`, `2 of 6 startup failures, 40 s left`."""
    following = replica.next
    if following is None:
        return ""
    time = left(following.at, now)
    reason = line(following.reason)
    match following.action:
        case "restart" | "check" if replica.phase in {"backoff", "unready"} and "failures" not in reason:
            return f"next {following.action} {time}".rstrip()
        case "restart" if replica.phase == "starting":
            return f"{reason}, {time.removeprefix('in ')} left" if time.startswith("in") else reason
        case "restart":
            return f"{reason}, restart {time}".rstrip()
        case "unroute":
            return f"{reason}, out of traffic {time}".rstrip()
        case "stop":
            return f"{reason}, ends {time} at the latest" if time else reason
        case "kill":
            return f"{reason}, killed {time}".rstrip()
    return reason or f"next {line(following.action)} {time}".rstrip()


def left(at: float | None, now: float) -> str:
    """The time until then in whole seconds, `in 14 s`; `now` when it has come."""
    if at is None:
        return ""
    seconds = math.ceil(at - now - 0.05)
    return f"in {duration(seconds)}" if seconds > 0 else "now"


def status(deployment: Deployment, ready: int, preparation: Preparation | None = None) -> str:
    """One word or two on how a deployment is; `pulling`, `filling` or `waiting` before its first replica."""
    wanted = deployment.wanted
    if not deployment.enabled:
        return "disabled"
    if wanted == 0:
        return "scaled to zero"
    if deployment.healthy_at is None:
        return "failed" if deployment.error else _under_way(preparation)
    if ready == 0:
        return "unavailable"
    return "healthy" if ready >= wanted else "degraded"


def _under_way(preparation: Preparation | None) -> str:
    if preparation is None:
        return "rolling out"
    return "waiting" if preparation.retry_at is not None else line(preparation.doing).partition(" ")[0]


def url(endpoint: str) -> str:
    return clean(endpoint if "://" in endpoint else f"http://{endpoint}/")


def counted(number: int, what: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def readiness(deployment: Deployment, health: Health, noun: str = "replicas ") -> str:
    """`2 of 3 replicas ready`, and what is on its way out beside them."""
    leaving = sum(replica.leaving for replica in health.replicas)
    text = f"{health.ready} of {deployment.wanted if deployment.enabled else 0} {noun}ready"
    return f"{text}, {leaving} on the way out" if leaving else text


def event(what: Event, ids: Mapping[str, str]) -> str:
    """One event on one line: `2026-11-28 13:14:02  7f3a91c2  ready, gets traffic`."""
    who = ids.get(what.replica_id, what.replica_id[:_SHORT]) if what.replica_id else ""
    return f"{local_time(what.at)}  {clean(who):{_SHORT}}  {line(what.message)}".rstrip()


def local_time(at: float) -> str:
    """Date and time of day, here, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def image(name: str, digest: str) -> str:
    """An image with the beginning of what its name stood for: `web:2 @ 3f9a6c21b0d4`."""
    told = digest.rpartition("@")[2].removeprefix("sha256:")[:_DIGEST]
    return f"{line(name)} @ {line(told)}" if told else line(name)
