"""Secrets of projects and of the team: kept under a name, never shown.

`project_id` is None for the team's everywhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from hale.api import projects
from hale.api.context import Context
from hale.api.errors import ProblemsError
from hale.core.secret import Secret, is_name
from hale.errors import ConflictError, NotFoundError

MAX_VALUE = 8192
_TICK = 0.001


async def every(context: Context, project_id: str | None) -> Sequence[Secret]:
    return [each for each in await context.store.secrets() if each.project_id == project_id]


async def find(context: Context, project_id: str | None, name: str) -> Secret:
    for secret in await every(context, project_id):
        if secret.name == name:
            return secret
    raise NotFoundError(f"cannot find secret {name[:128]!r} of {_owner(project_id)}: there is none")


async def create(context: Context, project_id: str | None, name: str, value: str) -> Secret:
    _check(f"keep the secret of {_owner(project_id)}", [*_wrong_name(name), *_wrong_value(value)])
    async with context.changing:
        if project_id is not None:
            await projects.find(context, project_id)  # deleted since it was asked for, perhaps
        if any(secret.name == name for secret in await every(context, project_id)):
            raise ConflictError(
                f"cannot create secret {name} of {_owner(project_id)}: there is one of that name",
                hint="update that one, or delete it first",
            )
        now = context.clock.now()
        secret = Secret(name, value, now, now, project_id)
        await context.store.put_secret(secret)
        return secret


async def update(context: Context, project_id: str | None, name: str, value: str) -> Secret:
    """Give it another value, which counts from the next apply of a deployment on."""
    _check(f"update secret {name[:128]} of {_owner(project_id)}", _wrong_value(value))
    async with context.changing:
        before = await find(context, project_id, name)
        # Replicas are replaced because of a new instant: it must be another one even if the clock stands.
        now = max(context.clock.now(), before.modified_at + _TICK)
        secret = replace(before, value=value, modified_at=now)
        await context.store.put_secret(secret)
        return secret


async def delete(context: Context, project_id: str | None, name: str) -> Secret:
    """Forget it; deployments that were applied with it keep what they have."""
    async with context.changing:
        secret = await find(context, project_id, name)
        await context.store.delete_secret(name, project_id)
        return secret


async def attached(context: Context) -> Collection[tuple[str | None, str]]:
    """Project and name of every secret that the newest revision of a deployment was applied with."""
    found: set[tuple[str | None, str]] = set()
    for deployment in await context.store.deployments():
        if deployment.deleted_at is None:
            for revision in await context.store.revisions(deployment.id, limit=1):
                found |= {(secret.project_id, secret.name) for secret in revision.secrets}
    return found


def _owner(project_id: str | None) -> str:
    return "the team" if project_id is None else f"project {project_id}"


def _check(doing: str, wrong: Sequence[str]) -> None:
    if wrong:
        raise ProblemsError(doing, wrong)


def _wrong_name(name: str) -> list[str]:
    return [] if is_name(name) else ["name: must be a letter, then letters, digits and _, 128 at most"]


def _wrong_value(value: str) -> list[str]:
    if not 1 <= len(value) <= MAX_VALUE:
        return [f"value: must have 1 to {MAX_VALUE} characters, and has {len(value)}"]
    return ["value: must not contain U+0000: no variable could hold it"] if "\0" in value else []
