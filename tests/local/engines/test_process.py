"""Processes as replicas: their surroundings, their ends, and what outlives what."""

import asyncio
import errno
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hale.clock import Clock
from hale.core.deployment import Machine
from hale.core.probe import Action, ExecAction, HttpAction, Probe, ProbeKind, TcpAction
from hale.errors import EngineError
from hale.local.engines.process import ProcessEngine
from hale.ports import Instance
from tests.conformance.engine import exited, found, launch, template, until

pytestmark = pytest.mark.real_time


def made(folder: Path, *, ignore_images: bool = False) -> ProcessEngine:
    return ProcessEngine(folder / "replicas", Clock.start(), ignore_images=ignore_images)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ProcessEngine]:
    async with made(tmp_path) as engine:
        try:
            yield engine
        finally:
            await cleared(engine)


async def cleared(engine: ProcessEngine) -> None:
    for instance in await engine.instances():
        await engine.stop(instance.replica_id, grace=0)
    await engine.shutdown()


async def run(engine: ProcessEngine, *command: str, **fields: object) -> Instance:
    return await engine.start(launch(made_of=template(command, **fields)))


async def output(engine: ProcessEngine) -> list[str]:
    return [line.text for line in await engine.log_lines("r1")]


async def said(engine: ProcessEngine, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in await output(engine):
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_it_leads_its_own_session_and_group(engine: ProcessEngine) -> None:
    pid = (await run(engine, "sleep", "1000")).pid
    assert pid is not None
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)


async def test_no_file_of_hale_is_open_in_it(engine: ProcessEngine) -> None:
    await run(engine, "ls", "/proc/self/fd")
    await exited(engine)
    # 0, 1, 2, and the folder that ls looks into.
    assert await output(engine) == ["0", "1", "2", "3"]


async def test_its_signals_and_its_umask_are_the_usual_ones(engine: ProcessEngine) -> None:
    await run(engine, "cat", "/proc/self/status")
    await exited(engine)
    status = dict(line.split(":\t", 1) for line in await output(engine) if ":\t" in line)
    # 32 and 33 are glibc's own: nobody can set them back, and `make` starts us with one of them ignored.
    of_glibc = 1 << 31 | 1 << 32
    blocked, ignored = (int(status[name], 16) & ~of_glibc for name in ("SigBlk", "SigIgn"))
    assert (blocked, ignored, status["Umask"]) == (0, 0, "0022")


async def test_its_environment_is_the_specs_and_hales(engine: ProcessEngine) -> None:
    instance = await run(engine, "sh", "-c", "env; echo end", env=(("GREETING", "hello $PORT"),))
    await said(engine, "end")
    env = dict(line.split("=", 1) for line in await output(engine) if "=" in line)
    first = str(instance.ports[8000])
    assert env["GREETING"] == f"hello {first}"
    assert (env["PORT"], env["PORT_8000"], env["PORT_9000"]) == (first, first, str(instance.ports[9000]))
    shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    inherited = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV"}
    own = {"GREETING", "HOST", "HALE_ATTEMPT", "PORT", "PORT_8000", "PORT_9000"}
    assert env.keys() - shell - own <= inherited


async def test_it_runs_in_the_named_folder_or_one_of_its_deployment(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    await run(engine, "sh", "-c", "pwd; exec sleep 1000")
    await said(engine, str(tmp_path / "work" / "d1"))
    (tmp_path / "own").mkdir()
    await engine.stop("r1", grace=5)
    await engine.start(launch(attempt=2, made_of=template(("pwd",), workdir=str(tmp_path / "own"))))
    await said(engine, str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        pytest.param(("no-such-command",), "command not found", id="not found on PATH"),
        pytest.param(("./no-such-file",), "command not found", id="no such file"),
        pytest.param(("./plain",), "permission denied", id="not executable"),
        pytest.param(("./lost",), "what its #! line .* names is not there", id="its interpreter is missing"),
        pytest.param(("./text",), "not a program", id="no program"),
        pytest.param(("a\0b",), "invalid argument", id="NUL in its name"),
    ],
)
async def test_what_cannot_be_started_says_why(
    engine: ProcessEngine, tmp_path: Path, command: tuple[str, ...], why: str
) -> None:
    for name, text, mode in (("plain", "x", 0o644), ("lost", "#!/no/such\n", 0o755), ("text", "x", 0o755)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    with pytest.raises(EngineError, match=why):
        await run(engine, *command, workdir=str(tmp_path))
    assert list(await engine.instances()) == []


async def test_a_folder_that_is_not_there_is_named(engine: ProcessEngine) -> None:
    with pytest.raises(EngineError, match="cannot enter the folder /no/such"):
        await run(engine, "true", workdir="/no/such")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param("exit 3", 3, id="a code"),
        pytest.param("exit 0", 0, id="zero"),
        pytest.param("kill -SEGV $$$$", -signal.SIGSEGV, id="a signal"),
    ],
)
async def test_how_it_ended_is_known(engine: ProcessEngine, command: str, code: int) -> None:
    await run(engine, "sh", "-c", command)
    assert (await exited(engine)).exit_code == code


async def test_one_that_ignores_sigterm_is_killed_after_its_grace(engine: ProcessEngine) -> None:
    await run(engine, "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    await said(engine, "deaf")
    await engine.stop("r1", grace=0.2)
    assert (await found(engine)).exit_code == -signal.SIGKILL


@pytest.mark.parametrize(
    "fork",
    [
        pytest.param("sleep 1000 & echo $!", id="in its group"),
        pytest.param("setsid sleep 1000 & sleep 0.1; echo $!", id="in a session of its own"),
        pytest.param("(setsid sh -c 'echo $$$$; exec sleep 1000' &)", id="forked twice"),
        pytest.param(
            "(env -i $(command -v setsid) sh -c 'echo $$$$; exec sleep 1000' &)",
            id="forked twice with nothing in its environment",
        ),
    ],
)
@pytest.mark.parametrize("by_itself", [True, False], ids=["it ends", "it is stopped"])
async def test_what_it_leaves_behind_ends_with_it(engine: ProcessEngine, fork: str, by_itself: bool) -> None:
    await run(engine, "sh", "-c", f"{fork}; sleep 0.3; " + ("exit 0" if by_itself else "sleep 1000"))
    await until_lines(engine, 1)
    child = int((await output(engine))[0])
    if not by_itself:
        await engine.stop("r1", grace=5)
    await exited(engine)
    await until(lambda: gone(child))


async def until_lines(engine: ProcessEngine, count: int) -> None:
    async with asyncio.timeout(30):
        while len(await output(engine)) < count:
            await asyncio.sleep(0.01)


async def test_a_child_may_use_the_grace_that_its_parent_did_not(engine: ProcessEngine) -> None:
    inner = "trap 'sleep 0.3; echo done; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await run(engine, "sh", "-c", f'sh -c "{inner}" & wait')
    await said(engine, "up")
    await engine.stop("r1", grace=20)
    assert "done" in await output(engine)


async def test_another_daemon_takes_over_and_knows_the_exit_code(tmp_path: Path) -> None:
    async with made(tmp_path) as first:
        before = await run(first, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
        await said(first, "up")
    async with made(tmp_path) as second:
        assert await found(second) == before
        await second.stop("r1", grace=20)
        assert (await found(second)).exit_code == 7
        await cleared(second)


async def test_an_end_while_no_daemon_was_there_is_known_afterwards(tmp_path: Path) -> None:
    async with made(tmp_path) as first:
        pid = (await run(first, "sh", "-c", "sleep 0.2; exit 9")).pid
    assert pid is not None
    await until(lambda: gone(pid))
    async with made(tmp_path) as second:
        assert (await exited(second)).exit_code == 9
        await cleared(second)


async def test_a_daemon_that_was_killed_leaves_everything_running(tmp_path: Path) -> None:
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        import uvloop
        from hale.clock import Clock
        from hale.core.deployment import Template
        from hale.local.engines.process import ProcessEngine
        from hale.ports import Launch

        async def main():
            folder = Path({str(tmp_path / "replicas")!r})
            made_of = Template("k", ("sleep", "1000"), ports=(8000,))
            async with ProcessEngine(folder, Clock.start(), ignore_images=False) as engine:
                await engine.start(Launch("r1", 1, "d1", "web", 1, made_of))
                os.kill(os.getpid(), signal.SIGKILL)

        uvloop.run(main())
    """
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    assert await daemon.wait() == -signal.SIGKILL
    async with made(tmp_path) as engine:
        assert (await found(engine)).running
        await cleared(engine)


async def test_when_the_keeper_is_killed_replicas_go_on_and_new_ones_start(engine: ProcessEngine) -> None:
    pid = (await run(engine, "sleep", "1000")).pid
    assert pid is not None
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    await until(lambda: gone(keeper))
    await engine.start(launch("r2"))
    assert (await found(engine, "r1")).running
    await engine.stop("r1", grace=10)
    assert (await found(engine, "r1")).exit_code is None
    await engine.stop("r2", grace=10)
    assert (await found(engine, "r2")).exit_code == -signal.SIGTERM


async def test_after_the_machine_was_started_anew_everything_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(tmp_path) as first:
        await run(first, "sleep", "1000")
    monkeypatch.setattr("hale.local.engines.process.boot_id", lambda: "another boot")
    async with made(tmp_path) as second:
        instance = await found(second)
        assert (instance.running, instance.exit_code) == (False, None)
    monkeypatch.undo()
    async with made(tmp_path) as third:
        await cleared(third)


async def test_a_record_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "replicas" / "r1" / "1"
    broken.mkdir(parents=True)
    (broken / "launch.json").write_text('{"pid": 12')
    async with made(tmp_path) as engine:
        assert list(await engine.instances()) == []
        await cleared(engine)


async def test_a_command_sees_what_the_replica_sees(engine: ProcessEngine) -> None:
    instance = await run(engine, "sleep", "1000", env=(("A", "1"),))
    result = await engine.execute("r1", ["sh", "-c", "echo $A $PORT; pwd >&2; exit 4"], timeout=30)
    cwd = os.readlink(f"/proc/{instance.pid}/cwd")
    assert (result.code, result.output) == (4, f"1 {instance.ports[8000]}\n{cwd}\n")


async def test_a_command_that_takes_too_long_is_ended_with_all_it_began(engine: ProcessEngine) -> None:
    await run(engine, "sleep", "1000")
    result = await engine.execute("r1", ["sh", "-c", "sleep 1000 & echo $!; wait"], timeout=0.5)
    assert result.code is None
    await until(lambda: gone(int(result.output)))


async def test_a_command_that_leaves_something_behind_does_not_keep_us_waiting(engine: ProcessEngine) -> None:
    await run(engine, "sleep", "1000")
    result = await engine.execute("r1", ["sh", "-c", "sleep 1000 & echo $!; exit 1"], timeout=30)
    assert result.code == 1
    await until(lambda: gone(int(result.output)))


async def test_of_endless_output_the_first_10_kib_are_kept(engine: ProcessEngine) -> None:
    await run(engine, "sleep", "1000")
    result = await engine.execute("r1", ["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x"], timeout=60)
    assert (result.code, len(result.output)) == (0, 10240)


async def test_a_command_that_is_not_there_is_refused(engine: ProcessEngine) -> None:
    await run(engine, "sleep", "1000")
    with pytest.raises(EngineError, match="cannot run no-such-command: no such file"):
        await engine.execute("r1", ["no-such-command"], timeout=1)


async def test_logs_of_attempts_follow_one_another(engine: ProcessEngine) -> None:
    for attempt in (1, 2):
        await engine.start(launch(attempt=attempt, made_of=template(("echo", f"attempt {attempt}"))))
        await exited(engine)
    await said(engine, "attempt 2")
    lines = await engine.log_lines("r1")
    assert [(line.attempt, line.text) for line in lines] == [(1, "attempt 1"), (2, "attempt 2")]
    rest = await engine.log_lines("r1", after=(1, lines[0].position))
    assert [line.text for line in rest] == ["attempt 2"]


async def test_only_the_logs_of_the_last_attempts_are_kept(engine: ProcessEngine) -> None:
    for attempt in range(1, 9):
        await engine.start(launch(attempt=attempt, made_of=template(("true",))))
        await exited(engine)
    assert {line.attempt for line in await engine.log_lines("r1")} <= {4, 5, 6, 7, 8}
    assert not (await asyncio.to_thread(lambda: list(Path(engine._records.folder / "r1").glob("[123]"))))


async def test_two_hundred_starts_leave_nothing_open(engine: ProcessEngine) -> None:
    await run(engine, "true")
    await exited(engine)
    await until(lambda: engine._held["r1"].gone.is_set())
    before = len(os.listdir("/proc/self/fd"))
    for attempt in range(2, 202):
        await engine.start(launch(attempt=attempt, made_of=template(("true",))))
        await exited(engine)
    await until(lambda: engine._held["r1"].gone.is_set())
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not engine._work


async def test_fifty_at_once_get_a_hundred_ports(engine: ProcessEngine) -> None:
    started = await asyncio.gather(*(engine.start(launch(f"r{number}")) for number in range(50)))
    assert len({port for instance in started for port in instance.ports.values()}) == 100


@pytest.mark.parametrize(
    "action", [HttpAction("/", 8000), HttpAction("/"), ExecAction(("true",)), TcpAction()]
)
async def test_checks_of_what_a_process_has_are_no_reason_to_refuse(tmp_path: Path, action: Action) -> None:
    probes = {ProbeKind.LIVENESS: Probe(ProbeKind.LIVENESS, action)}
    assert made(tmp_path).unable(template(ports=(80, 8000), probes=probes)) == ""


async def test_checks_of_other_ports_are_refused_by_their_fields(tmp_path: Path) -> None:
    probes = {kind: Probe(kind, HttpAction("/", 9000)) for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS)}
    assert made(tmp_path).unable(template(ports=(80, 8000), probes=probes)) == (
        "healthChecks.liveness.port: must be a port of resources.ports (80, 8000), not 9000; "
        "healthChecks.readiness.port: must be a port of resources.ports (80, 8000), not 9000"
    )


async def test_a_machine_type_is_said_to_have_no_effect(tmp_path: Path) -> None:
    (note,) = made(tmp_path).notes(template(machine=Machine("C4")))
    assert note.startswith("resources.machineType has no effect here")
    assert made(tmp_path).notes(template()) == ()


async def test_an_image_is_refused_unless_it_is_to_be_left_aside(tmp_path: Path) -> None:
    with_image = template(image="app:1")
    assert "--engine process" in made(tmp_path).unable(with_image)
    async with made(tmp_path, ignore_images=True) as engine:
        instance = await engine.start(launch(made_of=with_image))
        assert any("app:1 is left aside" in note for note in instance.notes)
        await cleared(engine)


async def test_a_replica_of_the_same_name_in_another_folder_is_left_alone(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    await run(engine, "sleep", "1000")
    async with made(tmp_path / "other") as other:
        await run(other, "sleep", "1000")
        await other.stop("r1", grace=5)
        await cleared(other)
    assert (await found(engine)).running


async def test_a_new_attempt_and_a_removal_wait_for_the_grace_of_what_is_being_stopped(
    engine: ProcessEngine,
) -> None:
    inner = "trap 'sleep 0.5; echo done; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await run(engine, "sh", "-c", f'sh -c "{inner}" & wait')
    await said(engine, "up")
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.stop("r1", grace=20))
        await exited(engine)
        await engine.start(launch(attempt=2))
    assert "done" in await output(engine)


async def test_variables_that_double_one_another_are_refused_before_they_fill_the_memory(
    engine: ProcessEngine,
) -> None:
    doubling = [("V0", "x" * 100), *((f"V{n}", f"$V{n - 1}$V{n - 1}") for n in range(1, 60))]
    with pytest.raises(EngineError, match="longer than 128 KiB"):
        await run(engine, "true", env=tuple(doubling))


async def test_a_large_environment_is_started_like_any_other(engine: ProcessEngine) -> None:
    large = tuple((f"V{n}", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 20_000) for n in range(20))
    await run(engine, "sh", "-c", "echo ${#V19}; exec sleep 1000", env=large)
    await until_lines(engine, 1)
    assert (await found(engine)).running
    assert (await engine.start(launch("r2"))).running


async def test_out_of_files_a_replica_is_watched_a_moment_later(
    engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_files(pid: int) -> int:
        monkeypatch.undo()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", out_of_files)
    await run(engine, "sh", "-c", "exit 3")
    assert (await exited(engine)).exit_code == 3


async def test_variables_of_the_spec_are_in_no_file_and_an_adopted_replica_has_them(tmp_path: Path) -> None:
    async with made(tmp_path) as before:
        await run(before, "sleep", "1000", env=(("TOKEN", "hidden = value"), ("EMPTY", "")))
    async with made(tmp_path) as after:
        result = await after.execute("r1", ["sh", "-c", "echo $TOKEN,$EMPTY,$PORT"], timeout=30)
        written = [path for path in tmp_path.rglob("*") if path.is_file()]
        holding = [path.name for path in written if b"hidden = value" in path.read_bytes()]
        port = (await found(after)).ports[8000]
        await cleared(after)
    assert (result.output, holding) == (f"hidden = value,,{port}\n", [])
