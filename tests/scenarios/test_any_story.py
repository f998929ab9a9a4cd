"""Whatever happens in whatever order: only ready replicas get requests, and all is well in the end."""

import asyncio
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hale.core.replica import Phase
from hale.errors import StoreError
from tests.conftest import AutojumpLoop
from tests.scenarios.player import Player

NAMES = ("web", "api")
REPLICAS = [f"r{number}" for number in range(1, 9)]
CHANGES = [
    "deploy {} replicas=1 version=1",
    "deploy {} replicas=2 version=2",
    "deploy {} replicas=4 version=3 checks=readiness",
    "deploy {} replicas=2 image=reg.test/web:1",
    "deploy {} replicas=1 image=reg.test/web:2 data=s3://models/1/",
    "deploy {} replicas=2 image=reg.test/web:2 pull=always",
    "deploy {} replicas=3 data=s3://models/2/ version=2",
    "scale {} 0",
    "scale {} 3",
    "rollback {} 1",
    "restart {}",
    "disable {}",
    "enable {}",
    "delete {}",
    "request {}",
]
ACCIDENTS = ["exit {}", "lose {}", "stubborn {}"]
ANSWERS = ["200", "503", "none"]
IMAGES = ["reg.test/web:1", "reg.test/web:2"]
WORLD = [
    *[f"push {image} {digest}" for image in IMAGES for digest in ("aaaa", "bbbb")],
    *[
        f"broken {kind} {image} it can't be pulled"
        for image in IMAGES
        for kind in ("image.denied", "image.failed")
    ],
    "broken image.unreachable reg.test/web:2 no route to host",
    "broken volume.unreachable data no route to host",
    "broken volume.denied data access is denied",
    "mend data",
    "evict",
    "evict bbbb",
    "distance 20",
    "distance 0",
]
TROUBLES = ["store", "read", "engine", "start", "stop", "balancer", "pull", "volumes"]
TIMES = ["0", "0.002", "0.05", "1", "11", "35", "700"]
COMMANDS = st.one_of(
    st.builds(str.format, st.sampled_from(CHANGES), st.sampled_from(NAMES)),
    st.builds(str.format, st.sampled_from(ACCIDENTS), st.sampled_from(REPLICAS)),
    st.builds(
        "answer {} {} {}".format,
        st.sampled_from([*REPLICAS, "*"]),
        st.sampled_from(["startup", "readiness", "liveness"]),
        st.sampled_from(ANSWERS),
    ),
    st.sampled_from(WORLD),
    st.builds("fail {} it is broken".format, st.sampled_from(TROUBLES)),
    st.builds("fail {}".format, st.sampled_from(TROUBLES)),
    st.builds("wait {}".format, st.sampled_from(TIMES)),
    st.sampled_from(
        ["refuse no such file", "refuse", "slow 3", "slow 0", "finish", "crash", "crash clock=-900"]
    ),
)


async def crash(player: Player, rest: str = "") -> None:
    """hale refuses to start without a store that can be read and an engine that answers."""
    await player.play(["kill", "wait 0.7", "fail read", "fail engine", f"serve {rest}"])


async def down(player: Player, _: str = "") -> None:
    await player.play(["fail engine", "fail stop", "down"])
    assert await player.engine.alive() == []
    await player.play(["fail read", "serve"])


async def finish(player: Player, _: str = "") -> None:
    for server in [each for each, n in (await player.balancer.in_flight()).items() if n]:
        player.balancer.finish(server)


async def tell(player: Player, command: str) -> None:
    """One command, where it makes sense."""
    name, _, rest = command.partition(" ")
    if special := {"crash": crash, "down": down, "finish": finish}.get(name):
        await special(player, rest)
    elif name in ("exit", "lose"):
        if rest in {each.replica_id for each in await player.engine.alive()}:
            await player.play([command])
    elif f"{name} {{}}" in "".join(CHANGES) and name != "request":
        if await player.known(rest.split()[0]) or name == "deploy":
            await attempt(player, command)
    else:
        await player.play([command])


async def attempt(player: Player, command: str) -> None:
    """The API says that the store can't; nothing is changed then."""
    try:
        await player.play([command])
    except StoreError:
        assert player.store.failure or player.store.unreadable


async def check_traffic(player: Player) -> None:
    """The balancer sends requests to replicas alone that hale holds ready, if it listens at all."""
    if player.balancer.failure:
        return
    for name in NAMES:
        ready = {
            f"{each.replica.id}.{each.replica.attempt}"
            for each in await player.platform.observe(name)
            if each.replica.phase is Phase.READY
        }
        assert set(player.balancer.ready(name)) <= ready


async def check_preparation(player: Player) -> None:
    """No replica comes for a revision that is not prepared."""
    for name in NAMES:
        if waits := player.platform.preparation(name):
            observed = await player.platform.observe(name)
            assert all(each.replica.revision < waits.revision for each in observed)


async def check_end(player: Player) -> None:
    """Every trouble is over: as many replicas as wanted are ready and get requests, and nothing else runs."""
    for trouble in TROUBLES:
        await player.play([f"fail {trouble}"])
    player.checks.answers.clear()
    player.engine.refusals.clear()
    player.engine.slow = 0.0
    await player.play(["mend data", "distance 0", *[f"push {image} aaaa" for image in IMAGES]])
    await finish(player)
    await player.play(["wait 3000"])
    expected = {}
    for deployment in await player.store.deployments():
        observed = await player.platform.observe(deployment.id)
        assert {each.replica.phase for each in observed} <= {Phase.READY}
        assert len(observed) == await player.wanted(deployment.id)
        assert player.platform.preparation(deployment.id) is None
        expected[deployment.id] = {f"{each.replica.id}.{each.replica.attempt}" for each in observed}
    assert {r.deployment_id: set(player.balancer.ready(r.deployment_id)) for r in player.balancer.routes} == (
        expected
    )
    running = {f"{each.replica_id}.{each.attempt}" for each in await player.engine.alive()}
    assert running == set().union(*expected.values())
    assert player.volumes.places() == await used_volumes(player)


async def used_volumes(player: Player) -> set[tuple[str, str]]:
    """Where the volumes of the newest revisions come from."""
    used = set()
    for deployment in await player.store.deployments():
        [newest] = await player.store.revisions(deployment.id, limit=1)
        if newest.prepared_at is not None:
            for integration in json.loads(newest.document).get("integrations", ()):
                used.add((deployment.id, integration["url"]))
    return used


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(COMMANDS, max_size=40))
def test_any_story_ends_well(commands: list[str]) -> None:
    async def play() -> None:
        async with asyncio.TaskGroup() as group:
            player = Player(group)
            await player.serve()
            await player.play(["deploy web replicas=2"])
            for command in commands:
                await tell(player, command)
                await check_traffic(player)
                await check_preparation(player)
            await check_end(player)
            await player.kill()

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(play())
