"""What a cluster can't do as it is written: refused, or noted with the field. And the Secrets it needs."""

import math
from dataclasses import dataclass, field

from hale.spec.problems import Loc, Problem, SpecError
from hale.spec.schema import Spec


@dataclass(frozen=True, slots=True)
class Needed:
    """A Secret that the manifests refer to and that hale does not print.

    `keys` are those of its data, each with what belongs there.
    """

    name: str
    type: str
    keys: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        keys = "; ".join(f"{key}: {what}" for key, what in self.keys)
        return f"Secret {self.name} of type {self.type} is needed, with {keys}"


@dataclass(slots=True)
class Findings:
    """Collects them for one spec, each with its place in the file."""

    spec: Spec
    notes: list[Problem] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)
    secrets: list[Needed] = field(default_factory=list)

    def note(self, loc: Loc, message: str, hint: str = "") -> None:
        self.notes.append(self._problem(loc, message, hint))

    def refuse(self, loc: Loc, message: str, hint: str = "") -> None:
        self.refused.append(self._problem(loc, message, hint))

    def need(self, secret: Needed) -> None:
        self.secrets.append(secret)

    def raise_refused(self) -> None:
        if self.refused:
            raise SpecError(self.refused, doing="render")

    def whole(self, loc: Loc, seconds: float) -> int:
        """Whole seconds, rounded up: nothing gets less time than was written."""
        rounded = math.ceil(seconds)
        if rounded != seconds:
            self.note(loc, f"is {seconds:g} s, and {rounded} s on a cluster: it counts whole seconds")
        return rounded

    def _problem(self, loc: Loc, message: str, hint: str) -> Problem:
        return self.spec.origin.source.problem(_written(self.spec, loc), message, hint)


def _written(spec: Spec, loc: Loc) -> Loc:
    """The field as it is called in the file, which may be in another dialect."""
    for ours, theirs in spec.origin.renamed.items():
        if loc[: len(ours)] == ours:
            return theirs
    root = spec.origin.source.root
    if root and loc[:1] == ("healthChecks",) and root.child("healthChecks") is None:
        return ("healthchecks", *loc[1:])
    return loc
