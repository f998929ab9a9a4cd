"""Which replicas to add and which to retire. Pure.

The counting is that of a Kubernetes Deployment's rolling update, with two differences: replicas on
their way out do not count against the surge, and one ready replica that existed is always left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hale.core.deployment import Strategy
from hale.core.replica import Phase, Replica


@dataclass(frozen=True, slots=True)
class Rollout:
    """`add` new replicas of the wanted template; retire these (`replaced` by it, `surplus` of it)."""

    add: int = 0
    replaced: tuple[Replica, ...] = ()
    surplus: tuple[Replica, ...] = ()


def plan_rollout(staying: Sequence[Replica], template: str, wanted: int, strategy: Strategy) -> Rollout:
    """One step towards `wanted` replicas of `template`; `staying` are all that are not leaving."""
    current = [replica for replica in staying if replica.template == template]
    old = [replica for replica in staying if replica.template != template]
    if wanted == 0:
        return Rollout(replaced=tuple(old), surplus=tuple(current))
    surplus = _least_useful(current)[: max(0, len(current) - wanted)]
    gone = {replica.id for replica in surplus}
    current = [replica for replica in current if replica.id not in gone]
    room = wanted + _surge(strategy, wanted) - len(current) - len(old)
    add = max(0, min(wanted - len(current), room))
    return Rollout(add, tuple(_replaced(current, old, wanted, strategy)), tuple(surplus))


def _surge(strategy: Strategy, wanted: int) -> int:
    """At least one where nothing may be unavailable either: a rollout must be able to move."""
    surge = strategy.max_surge.up(wanted)
    return surge if surge or _unavailable(strategy, wanted) else 1


def _unavailable(strategy: Strategy, wanted: int) -> int:
    return min(strategy.max_unavailable.down(wanted), wanted - 1)


def _replaced(
    current: Sequence[Replica], old: Sequence[Replica], wanted: int, strategy: Strategy
) -> list[Replica]:
    """Old replicas that may go now: first those without traffic, as far as the new ones stand in for them."""
    minimum = wanted - _unavailable(strategy, wanted)
    ready = sum(_ready(replica) for replica in (*current, *old))
    waiting = sum(not _ready(replica) for replica in current)
    idle = [replica for replica in old if not _ready(replica)]
    serving = [replica for replica in old if _ready(replica)]
    may_go = max(0, len(current) + len(old) - minimum - waiting)
    gone = _least_useful(idle)[:may_go]
    # A spare ready replica may go as long as enough stay ready: at least one, as the minimum is never 0.
    spare = max(0, ready - minimum)
    return [*gone, *_least_useful(serving)[:spare]]


def _ready(replica: Replica) -> bool:
    return replica.phase is Phase.READY


def _least_useful(replicas: Sequence[Replica]) -> list[Replica]:
    """Those without traffic first, those that keep failing before others, the youngest before the eldest."""
    return sorted(replicas, key=lambda r: (_ready(r), r.phase is not Phase.BACKOFF, -r.created_at, r.id))
