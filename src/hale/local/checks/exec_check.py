"""One exec check: a command in the replica's environment, run by the engine."""

import asyncio
import logging

from hale.core.words import duration
from hale.errors import EngineUnavailableError, HaleError
from hale.local.checks.body import BODY_LIMIT
from hale.local.checks.reply import Reply
from hale.local.checks.text import SHOWN, harmless
from hale.ports import Engine, ExecResult

log = logging.getLogger(__name__)

_BROKEN = "cannot make a check: hale could not run its command, the log says why"


class Commands:
    """Runs the commands of checks. That the engine is away is told once for all of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._away = False

    async def execute(self, replica_id: str, command: tuple[str, ...], timeout: float) -> ExecResult | str:
        """What the command came to, or why it could not be run."""
        try:
            result = await self._engine.execute(replica_id, command, timeout=timeout)
        except EngineUnavailableError as error:
            if not self._away:
                log.warning("exec checks are not made: %s", error.message)
            self._away = True
            return ""
        except HaleError as error:
            return error.message
        except Exception:
            # A mistake in an engine must not end the checks of every other replica.
            log.exception("exec check of replica %s", replica_id)
            return ""
        if self._away:
            log.info("exec checks are made again")
        self._away = False
        return result


class ExecCheck:
    """A command that runs; it has no exit code if it was killed when its time was over."""

    __slots__ = ("_reply", "_task", "_timeout")

    def __init__(self, task: asyncio.Task[ExecResult | str], timeout: float, reply: Reply) -> None:
        self._task = task
        self._timeout = timeout
        self._reply = reply
        task.add_done_callback(self._ran)

    def cancel(self) -> None:
        self._reply.cancel()
        self._task.cancel()

    def _ran(self, task: asyncio.Task[ExecResult | str]) -> None:
        if task.cancelled():
            return
        result = task.result()
        if isinstance(result, ExecResult):
            self._judge(result)
        elif result:
            self._reply.fail(harmless(result))
        else:
            self._reply.give(ok=False, detail=_BROKEN, warning=_BROKEN)

    def _judge(self, result: ExecResult) -> None:
        said = harmless(result.output)
        if result.code is None:
            late = f"no exit within {duration(self._timeout)}"
            self._reply.fail(f"{late}: {said}"[:BODY_LIMIT] if said else late)
        else:
            ok = result.code == 0
            shown = said[: SHOWN if ok else BODY_LIMIT]
            self._reply.give(ok=ok, detail=shown, status=result.code, exited=True)
