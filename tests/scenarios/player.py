"""Plays the commands of a scenario on a LocalPlatform out of memory parts, in virtual time.

A command is a method below: `scale web 4` calls `scale("web", "4")`, `deploy web replicas=2` calls
`deploy("web", replicas="2")`. What hale did meanwhile comes back as lines, a time in seconds before each.
"""

import asyncio
import itertools
import json
from dataclasses import replace
from typing import Any

from hale.clock import Clock
from hale.core.deployment import Deployment, Revision
from hale.core.event import Event, Level
from hale.core.image import Preparation
from hale.errors import PreparationError
from hale.local.platform import LocalPlatform
from hale.settings import Address
from tests.scenarios.parts import Balancer, Checks, Engine, Store, Volumes

FATAL = frozenset({"image.not_found", "image.tag_not_found", "image.denied", "volume.denied"})
EPOCH = 1_700_000_000.0
CHECK = {"path": "/", "periodSeconds": 10, "timeoutSeconds": 1}
CHECKS = {
    "startup": {**CHECK, "failureThreshold": 6},
    "readiness": {**CHECK, "failureThreshold": 3},
    "liveness": {**CHECK, "failureThreshold": 3},
}


class Player:
    """One machine; `daemon` is None while hale does not run."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._clock = Clock(EPOCH, asyncio.get_running_loop().time())
        self._lines: list[tuple[float, str]] = []
        self._ids = (f"r{number}" for number in itertools.count(1))
        self.store = Store(self._tell)
        self.engine = Engine(self._clock, self._say)
        self.balancer = Balancer(self._say)
        self.checks = Checks(self._clock)
        self.volumes = Volumes(self._say)
        self.platform: LocalPlatform
        self.daemon: asyncio.Task[None] | None = None

    # --- commands ---

    async def serve(self, clock: str = "0") -> None:
        """hale starts, with the machine's clock set forward or back by `clock` seconds meanwhile."""
        self._clock = replace(self._clock, epoch=self._clock.epoch + float(clock))
        self.checks.clock = self._clock
        self.engine.alone(self._clock)
        self.platform = LocalPlatform(
            self.store,
            self.engine,
            self.balancer,
            self.checks.begin,
            self._clock,
            volumes=self.volumes,
            gateway=Address("127.0.0.1", 80),
            domain="test",
            new_id=lambda: next(self._ids),
        )
        adopted = asyncio.Event()
        self.daemon = self._group.create_task(self.platform.run(adopted.set))
        await adopted.wait()

    async def kill(self) -> None:
        """hale ends; what it started goes on."""
        assert self.daemon is not None
        self.daemon.cancel()
        await asyncio.wait({self.daemon})
        self.daemon = None
        self.engine.alone(self._clock)

    async def down(self) -> None:
        await self.platform.down()
        await self.kill()

    async def power_cut(self) -> None:
        await self.kill()
        self.engine.cut_power()
        await self.balancer.apply([])

    async def wait(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))

    async def deploy(self, name: str, replicas: str = "1", version: str = "1", **others: str) -> None:
        """Apply a spec; `version` is what replicas depend on, `others` as `_spec` has them."""
        deployment = await self.store.deployment(name) or Deployment(name, "p", name, name, self._clock.now())
        await self._apply(deployment, _spec(name, int(replicas), version, others))

    async def push(self, name: str, digest: str) -> None:
        """From now on the name stands for this in its registry, which can be reached."""
        self.engine.registry[name] = f"{name.rpartition(':')[0]}@sha256:{digest * 16}"

    async def broken(self, event: str, name: str, *why: str) -> None:
        """The image of this name can't be pulled, or the integration not be filled."""
        error = PreparationError(
            " ".join(why), event=event, fatal=event in FATAL, hint="have a look" if event in FATAL else ""
        )
        failures = self.volumes.failures if event.startswith("volume") else self.engine.registry
        failures[name] = error  # type: ignore[index]

    async def mend(self, name: str) -> None:
        """The integration can be filled again."""
        self.volumes.failures.pop(name, None)

    async def correct(self, name: str) -> None:
        """Something that the deployment needs was changed: the password of its registry, perhaps."""
        self._wake(name)

    async def distance(self, seconds: str) -> None:
        """Images and volumes take this long."""
        self.engine.pull_time = self.volumes.fill_time = float(seconds)

    async def evict(self, part: str = "") -> None:
        """Somebody removes the images with this in their names."""
        for name in [name for name in self.engine.images if part in name]:
            del self.engine.images[name]

    async def scale(self, name: str, replicas: str) -> None:
        await self._change(name, lambda spec: spec["resources"].update(replicas=int(replicas)))

    async def disable(self, name: str) -> None:
        await self._change(name, lambda spec: spec.update(enabled=False))

    async def enable(self, name: str) -> None:
        await self._change(name, lambda spec: spec.update(enabled=True))

    async def rollback(self, name: str, number: str) -> None:
        [target] = [each for each in await self.store.revisions(name) if str(each.number) == number]
        await self._apply(await self._deployment(name), json.loads(target.document), image=target.image)

    async def restart(self, name: str) -> None:
        deployment = await self._deployment(name)
        await self._put(replace(deployment, restarts=deployment.restarts + 1))

    async def delete(self, name: str) -> None:
        await self._put(replace(await self._deployment(name), deleted_at=self._clock.now()))

    async def answer(self, replica_id: str, kind: str, answer: str) -> None:
        """From now on a check of the replica (`*`: of all) gets this status, or `none` within its timeout."""
        self.checks.answers[replica_id, kind] = answer

    async def forget(self, name: str) -> None:
        """The store has lost the deployment."""
        await self.store.delete_deployment(name)

    async def exit(self, replica_id: str, code: str = "1") -> None:
        self.engine.exit(replica_id, int(code))

    async def lose(self, replica_id: str) -> None:
        self.engine.lose(replica_id)

    async def stubborn(self, replica_id: str) -> None:
        self.engine.stubborn.add(replica_id)

    async def slow(self, seconds: str) -> None:
        """Starts take this long."""
        self.engine.slow = float(seconds)

    async def refuse(self, *why: str) -> None:
        """The engine can't start anything (no reason: it can again)."""
        self.engine.refusals["serve"] = " ".join(why)

    async def fail(self, what: str, *why: str) -> None:
        """The store can't be written or read, the engine does nothing, or starts or stops nothing, and so on.

        Without a reason it is well again.
        """
        part, attribute = {
            "store": (self.store, "failure"),
            "read": (self.store, "unreadable"),
            "engine": (self.engine, "failure"),
            "start": (self.engine, "busy"),
            "stop": (self.engine, "unstoppable"),
            "pull": (self.engine, "dumb"),
            "volumes": (self.volumes, "unremovable"),
            "balancer": (self.balancer, "failure"),
        }[what]
        setattr(part, attribute, " ".join(why))

    async def request(self, name: str) -> None:
        status, server = self.balancer.begin(f"{name}.test")
        self._say(f"a request: {status} {server}".rstrip())

    async def finish(self, server: str) -> None:
        self.balancer.finish(server)

    async def show(self, name: str) -> None:
        """Each replica with its attempt, and what happens to it next; the newest revision's marks."""
        for seen in await self.platform.observe(name):
            next_ = f"; {seen.next.action}: {seen.next.reason}" if seen.next else ""
            at = f" at {seen.next.at - EPOCH:.3f}" if seen.next and seen.next.at is not None else ""
            self._say(f"= {seen.replica.id}.{seen.replica.attempt} {seen.replica.phase}{next_}{at}")
        for newest in await self.store.revisions(name, limit=1):
            if preparing := self.platform.preparation(name):
                self._say(f"= {_preparing(preparing)}")
            applied, healthy = newest.applied_at is not None, newest.healthy_at is not None
            self._say(f"= revision {newest.number}: {applied=}, {healthy=}, {newest.error or 'no error'}")

    # --- the rest ---

    async def known(self, name: str) -> bool:
        return name in {deployment.id for deployment in await self.store.deployments()}

    async def wanted(self, name: str) -> int:
        """How many replicas its newest revision asks for."""
        spec = json.loads((await self.store.revisions(name, limit=1))[0].document)
        return spec["resources"]["replicas"] if spec.get("enabled", True) else 0

    async def play(self, commands: list[str]) -> list[str]:
        self._lines = []
        for command in commands:
            name, *words = command.split()
            given = dict(word.split("=", 1) for word in words if "=" in word)
            await getattr(self, name)(*[word for word in words if "=" not in word], **given)
        return [f"{at - EPOCH:10.3f}  {line}" for at, line in sorted(self._lines, key=lambda line: line[0])]

    async def _change(self, name: str, change: Any) -> None:
        [before] = await self.store.revisions(name, limit=1)
        spec = json.loads(before.document)
        change(spec)
        await self._apply(
            await self._deployment(name), spec, image=before.image, prepared_at=before.prepared_at
        )

    async def _apply(self, deployment: Deployment, spec: dict[str, Any], **carried: Any) -> None:
        number = len(await self.store.revisions(deployment.id)) + 1
        revision = Revision(
            f"{deployment.id}-{number}", deployment.id, number, json.dumps(spec), self._clock.now(), **carried
        )
        await self.store.apply(deployment, revision)
        self._wake(deployment.id)

    async def _put(self, deployment: Deployment) -> None:
        await self.store.put_deployment(deployment)
        self._wake(deployment.id)

    def _wake(self, deployment_id: str) -> None:
        if self.daemon is not None:
            self.platform.wake(deployment_id)

    async def _deployment(self, name: str) -> Deployment:
        deployment = await self.store.deployment(name)
        assert deployment is not None
        return deployment

    def _say(self, line: str) -> None:
        self._lines.append((self._clock.now(), line))

    def _tell(self, event: Event) -> None:
        mark = "!" if event.level is Level.WARNING else "*"
        who = event.replica_id or event.deployment_id or "hale"
        lines = [f"{mark} {who} {event.type.partition('.')[2]}: {event.message}"]
        if len(event.cause) > 2:
            lines += [f"      {link.at - EPOCH:.3f} {link.kind}: {link.message}" for link in event.cause]
        self._lines += [(event.at, line) for line in lines]


def _spec(name: str, replicas: int, version: str, others: dict[str, str]) -> dict[str, Any]:
    """`checks=readiness,liveness` (or none) names the checks, `image` the image, `data` where the integration
    `data` comes from; what else there is are hale's own settings.
    """
    wanted = others.pop("checks", "startup,readiness,liveness").split(",")
    spec: dict[str, Any] = {
        "apiVersion": "v1",
        "name": name,
        "command": ["serve"],
        "env": [{"name": "VERSION", "value": version}],
        "resources": {"machineType": "C4", "replicas": replicas, "ports": [80]},
        "healthChecks": {kind: check for kind, check in CHECKS.items() if kind in wanted},
    }
    if image := others.pop("image", None):
        spec["image"] = image
    if url := others.pop("data", None):
        spec["integrations"] = [{"name": "data", "type": "s3", "url": url}]
    if others:
        spec["hale"] = {key: int(value) if value.isdigit() else value for key, value in others.items()}
    return spec


def _preparing(preparation: Preparation) -> str:
    got = preparation.progress
    text = f"revision {preparation.revision} {preparation.doing}: {got.done} of {got.total}"
    if preparation.failures:
        text += f", {preparation.failures} failures, {preparation.error}"
    at = preparation.retry_at
    return text if at is None else f"{text}, again at {at - EPOCH:.3f}"
