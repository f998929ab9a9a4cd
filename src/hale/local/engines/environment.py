"""What a replica's process finds around it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hale.core.deployment import Template
from hale.core.volume import variable
from hale.errors import EngineError
from hale.local.engines.expand import expand

INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""Of hale's own environment a replica gets these, and nothing else."""

MARK = "HALE_ATTEMPT"
"""Names the attempt by its folder, in the environment of everything it starts: no other is called so."""

HOST = "127.0.0.1"

_ALL = 2 << 20
"""Characters of all variables together: about what the kernel takes."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The command and its whole environment; `notes` say which of the spec's variables gave way."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    notes: tuple[str, ...]


def setting(template: Template, ports: Mapping[int, int], own: Mapping[str, str], *, mark: str) -> Setting:
    """`ports` maps declared to assigned ports, the first one first; `own` is hale's environment."""
    given = _given(ports, mark) | {variable(mount.name): mount.folder for mount in template.mounts}
    known = {name: own[name] for name in INHERITED if name in own}
    notes = []
    for name, value in template.env:
        if name in given:
            notes.append(f"env: {name} is set by hale to {given[name]}; the spec's value is left aside")
        else:
            # A variable may use those before it, and what hale sets.
            known[name] = expand(value, {**known, **given})
    env = {**known, **given}
    if sum(map(len, env.values())) > _ALL:
        raise EngineError(f"cannot start {template.command[0]}: its variables are more than {_ALL >> 20} MiB")
    return Setting(tuple(expand(word, env) for word in template.command), env, tuple(notes))


def unenforced(template: Template, *, root: bool) -> tuple[str, ...]:
    """What of the template a process is only asked to heed: permission bits are nothing to root."""
    names = [source.name for source in template.sources if not source.writable]
    if not root or not names:
        return ()
    written = f"integrations: nothing keeps replicas from writing to {', '.join(names)}"
    return (f"{written}: they run as root, as hale does",)


def _given(ports: Mapping[int, int], mark: str) -> dict[str, str]:
    given = {"HOST": HOST, MARK: mark}
    assigned: Sequence[tuple[int, int]] = list(ports.items())
    if assigned:
        given["PORT"] = str(assigned[0][1])
    return given | {f"PORT_{declared}": str(actual) for declared, actual in assigned}
