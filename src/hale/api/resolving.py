"""What a revision is made of besides its spec, and whether it can be made at all."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hale.api.context import Context
from hale.api.errors import ProblemsError
from hale.core.deployment import Revision
from hale.core.secret import Secret, visible
from hale.spec import compile as compiled
from hale.spec import unsupported
from hale.spec.problems import path
from hale.spec.schema import Spec

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Means:
    """The secrets that a spec refers to, its image if that is known, and when both were made ready."""

    secrets: tuple[Secret, ...] = ()
    image: str | None = None
    prepared_at: float | None = None


def kept(before: Revision) -> Means:
    """Those of the revision before: what was changed of its spec has nothing to do with them.

    Nor is it looked at again whether it can be done here: to switch off what can't is always right.
    """
    return Means(before.secrets, before.image, before.prepared_at)


async def resolved(
    context: Context, project_id: str, spec: Spec, *, image: str | None = None, doing: str = ""
) -> Means:
    """The secrets as they are now. `image` is what to run, if that is known already."""
    known = visible(await context.store.secrets(), project_id)
    names = {name for _, name in compiled.references(spec)}
    reasons = [*unsupported.missing_secrets(spec, known), *_unfit(spec, known)]
    if image is None:
        reasons += unsupported.missing_registry(spec, await _registries(context))
    secrets = tuple(known[name] for name in sorted(names & known.keys()))
    _refuse(context, spec, secrets, [str(reason) for reason in reasons], doing or f"apply {spec.name}")
    return Means(secrets, image)


def notes(context: Context, spec: Spec, secrets: Iterable[Secret]) -> list[str]:
    """What is accepted and makes no difference, here or on this platform."""
    template = compiled.template(spec, secrets=secrets, machines=context.settings.machines)
    return [*unsupported.notes(spec), *context.platform.notes(template)]


def _refuse(
    context: Context, spec: Spec, secrets: Sequence[Secret], reasons: Sequence[str], doing: str
) -> None:
    """Stop what can't be done here, with everything that stands in the way."""
    reasons = [*(str(refusal) for refusal in unsupported.refusals(spec)), *reasons]
    template = compiled.template(
        spec, secrets=[*_stand_ins(spec), *secrets], machines=context.settings.machines
    )
    if unable := context.platform.unable(template):
        reasons.append(unable)
    if reasons:
        raise ProblemsError(doing, reasons)


def _stand_ins(spec: Spec) -> Iterator[Secret]:
    """For those that are missing: what else is wrong is to be told at the same time."""
    for _, name in compiled.references(spec):
        yield Secret(name, "missing", 0.0, 0.0)


def _unfit(spec: Spec, known: Mapping[str, Secret]) -> Iterator[str]:
    """Values that only a variable can have: a line end after a password is a mistake that nobody sees."""
    for loc, name in compiled.references(spec):
        if loc[0] != "env" and name in known and _CONTROL.search(known[name].value):
            yield (
                f"{path(loc)}: secret {name} contains control characters, a line end perhaps, which can't be"
                f" used here; set {name} again without them"
            )


async def _registries(context: Context) -> Collection[str]:
    return {known for each in await context.store.registries() for known in (each.name, each.id)}
