"""How a revision takes over. Pure.

As it is written, except where a cluster would take away more than hale does: hale never takes the last ready
replica, and adds one where no other step is left; a cluster takes one away first.
"""

from hale.core.deployment import Strategy
from hale.kubernetes.names import Object
from hale.kubernetes.parts import Parts
from hale.spec import compile as compiled
from hale.spec.problems import Loc
from hale.spec.schema import Settings as Own
from hale.spec.schema import Strategy as Written

_AT: Loc = ("hale", "strategy")
_DEFAULT = "25%"


def rolling(parts: Parts) -> Object:
    """The fields of the Deployment."""
    strategy, wanted = compiled.strategy(parts.spec), compiled.replicas(parts.spec)
    return {
        "progressDeadlineSeconds": parts.findings.whole(
            (*_AT, "progressDeadlineSeconds"), strategy.progress_deadline
        ),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _shares(parts, strategy, wanted)},
    }


def _shares(parts: Parts, strategy: Strategy, wanted: int) -> Object:
    own = (parts.spec.hale or Own()).strategy or Written()
    surge = _DEFAULT if own.max_surge is None else own.max_surge
    unavailable = _DEFAULT if own.max_unavailable is None else own.max_unavailable
    if wanted and strategy.max_unavailable.down(wanted) >= wanted:
        unavailable = wanted - 1
        message = f"becomes {unavailable}: one of {wanted} replicas always stays"
        parts.findings.note((*_AT, "maxUnavailable"), message)
    if wanted and _stands_still(strategy, wanted):
        surge = 1
        message = "becomes 1: with no replica more and none less no revision could take over"
        parts.findings.note((*_AT, "maxSurge"), message)
    return {"maxSurge": surge, "maxUnavailable": unavailable}


def _stands_still(strategy: Strategy, wanted: int) -> bool:
    return not strategy.max_surge.up(wanted) and not min(strategy.max_unavailable.down(wanted), wanted - 1)
