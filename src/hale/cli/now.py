"""Time for the command line, which has no loop to tie hale.clock to, and no use for its import of asyncio."""

import time


def now() -> float:
    """The instant, in seconds since the epoch."""
    return time.time()  # noqa: TID251 # see above


def elapsed() -> float:
    """Seconds since some moment, for deadlines."""
    return time.monotonic()  # noqa: TID251 # see above
