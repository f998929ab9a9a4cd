"""`hale up`: from a spec to a healthy deployment, with a daemon of our own if there is none."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hale.cli import background, live, output, words
from hale.cli.answers import JSON, Deployment
from hale.cli.background import Daemon
from hale.cli.client import AnswerError, UnreachableError, named_by_environment
from hale.cli.follow import Outcome, Snapshot, Wakes, outcome, snapshots
from hale.cli.remote import Remote
from hale.cli.serve import ServeOptions, settings
from hale.errors import HaleError, NotFoundError, RefusedError

_STOP_NOTE = "Ctrl-C stops it."
_LOGS_HINT = "`hale logs` shows what its replicas wrote, `hale events` what happened"
_FOLLOW_NOTE = "Ctrl-C stops looking; the deployment goes on."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to apply, and where to."""

    config: JSON
    project: str | None
    data: Path


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP, counted: one asks to stop, a second to hurry, a third breaks off."""

    def __init__(self, wakes: Wakes) -> None:
        self.count = 0
        self._wakes = wakes

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._wakes.put(None)
        if self.count > 2:
            raise KeyboardInterrupt

    @property
    def stopped(self) -> bool:
        return self.count > 0

    @property
    def hurried(self) -> bool:
        return self.count > 1


@contextmanager
def interrupts(wakes: Wakes) -> Iterator[Interrupts]:
    """Counts stop signals inside the block. A SIGHUP that is ignored (nohup) stays so."""
    counter = Interrupts(wakes)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:
            signal.signal(number, counter)
    try:
        yield counter
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up(
    wanted: Wanted, options: ServeOptions, *, detach: bool, program: Sequence[str] = background.PROGRAM
) -> int:
    """Apply to the daemon that runs, else to one of our own, which `program` is."""
    hale = background.running(wanted.data)
    if hale is not None:
        with closing(hale.client):
            return _with_daemon(hale, wanted, options)
    if named_by_environment():
        raise UnreachableError(
            "cannot reach the daemon that HALE_API_URL names", hint="unset HALE_API_URL to run one here"
        )
    settings(wanted.data, options)  # refuses what `serve` would, before anything is started
    wakes = Wakes()
    with interrupts(wakes) as stop:
        output.say("starting a daemon")
        daemon = background.start(wanted.data, options, wakes, lambda: stop.hurried, program)
        if stop.stopped:
            with closing(daemon.remote().client) as client:
                _down(Remote(client), daemon)
            raise KeyboardInterrupt
        if not detach:
            return _foreground(daemon, wanted, wakes, stop)
    with closing(daemon.remote().client) as client:
        return follow(Remote(client), wanted, first=daemon)


def _with_daemon(hale: Remote, wanted: Wanted, options: ServeOptions) -> int:
    if options.given():
        raise RefusedError(
            f"cannot use {options.given()[0]}: a daemon is running already, with options of its own",
            hint="leave it out, or end that daemon with `hale down` first",
        )
    return follow(hale, wanted)


def follow(hale: Remote, wanted: Wanted, *, first: Daemon | None = None) -> int:
    """Apply and show what happens until it is healthy or can't be. A refused first spec ends its daemon."""
    try:
        deployment, after = apply(hale, wanted)
    except AnswerError:
        if first is not None:
            _down(hale, first)
        raise
    return ended(wait(hale, deployment, after))


def apply(hale: Remote, wanted: Wanted) -> tuple[Deployment, int]:
    """Apply; the second value is the last event from before."""
    after = 0
    with suppress(NotFoundError, KeyError):
        after = hale.last_event_id(hale.named(wanted.config["name"], wanted.project or "default").id)
    return hale.apply(wanted.config, wanted.project), after


def submit(hale: Remote, wanted: Wanted) -> int:
    deployment, _ = apply(hale, wanted)
    revision = hale.health(deployment.id).value.revision
    output.say(f"{deployment.name}: revision {revision} is applied, {words.url(deployment.endpoint)}")
    return 0


def wait(hale: Remote, deployment: Deployment, after: int) -> Outcome:
    """Show the deployment until it is known how it came out."""
    looks = snapshots(hale, deployment.id, after, Wakes())
    with live.view() as view:
        while True:
            snapshot = next(looks)
            result = outcome(snapshot, deployment.spec_id)
            view.show(snapshot, "" if result else _FOLLOW_NOTE)
            if result:
                return result


def ended(result: Outcome) -> int:
    if not result.ok:
        raise HaleError(result.message, hint=result.hint or _LOGS_HINT)
    output.say(result.message)
    return 0


def _foreground(daemon: Daemon, wanted: Wanted, wakes: Wakes, stop: Interrupts) -> int:
    """Apply, show, and at the first signal (or when nobody can see it any more) stop all of it."""
    hale = daemon.remote()
    deployment: Deployment | None = None
    result: Outcome | None = None
    try:
        deployment, after = apply(hale, wanted)
        with suppress(OSError), live.view() as view:
            for snapshot in snapshots(hale, deployment.id, after, wakes):
                result = _news(view, snapshot, deployment, result, "" if stop.stopped else _STOP_NOTE)
                if stop.stopped:
                    break
    except UnreachableError:
        if not daemon.ends_within(1.0):
            raise
        return _gone(daemon)
    finally:
        if not daemon.ended:
            _stop(hale, daemon, deployment, stop)
        hale.client.close()
    return 0 if result is None or result.ok else 1


def _news(
    view: live.View, snapshot: Snapshot, deployment: Deployment, known: Outcome | None, note: str
) -> Outcome | None:
    result = outcome(snapshot, deployment.spec_id)
    view.show(snapshot, note)
    if result is not None and result != known and isinstance(view, live.LineView):
        output.print_line(result.message)
        output.flush()
    return result or known


def _gone(daemon: Daemon) -> int:
    """The daemon ended before we asked it to: somebody else did, or it broke."""
    if daemon.process.returncode != 0:
        raise daemon.failure()
    output.say("the daemon was told to end")
    return 0


def _stop(hale: Remote, daemon: Daemon, deployment: Deployment | None, stop: Interrupts) -> None:
    """Disable what we applied and wait for its replicas, then end the daemon with all it runs."""
    if deployment is not None:
        output.say(f"stopping {words.line(deployment.name)}: its replicas finish their requests, then end")
        with suppress(HaleError):
            hale.change(deployment.id, enabled=False)
            pause = Wakes()
            while not stop.hurried and hale.health(deployment.id).value.running:
                pause.wait(0.2)
    _down(hale, daemon)
    output.say("stopped")


def _down(hale: Remote, daemon: Daemon) -> None:
    """End the daemon with all it runs; one that is gone already need not be asked."""
    with suppress(UnreachableError):
        hale.down()
    try:
        daemon.process.wait()
    except KeyboardInterrupt:
        output.say(f"not waiting for the end; process {daemon.process.pid} still works on it")
        raise
