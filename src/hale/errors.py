"""The error tree: what went wrong in one sentence, a stable code for machines, a hint that is an action.

Messages read "cannot <do what>: <why>": lower case, no full stop, never a secret.
"""


class HaleError(Exception):
    """Base of every error that hale raises on purpose.

    `code` is one of the REST API's error codes (NOT_FOUND, BAD_REQUEST, ...);
    `hint` says what to do about it, or is empty.
    """

    code = "INTERNAL_SERVER_ERROR"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def one_line(self) -> str:
        """The message with its hint."""
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class RefusedError(HaleError):
    """What was asked for is understood and will not be done as it stands."""

    code = "BAD_REQUEST"


class NotFoundError(HaleError):
    """There is no such deployment, revision, replica or project."""

    code = "NOT_FOUND"


class ConflictError(HaleError):
    """It clashes with something that exists: a name, a running daemon, a port."""

    code = "CONFLICT"


class EngineError(HaleError):
    """The engine could not do it for this replica (command not found, no permission, disk full)."""


class EngineUnavailableError(EngineError):
    """The engine itself does not answer; every replica is concerned."""


class ImageGoneError(EngineError):
    """The image that a replica is to be started from is no longer here; it can be pulled again."""


class PreparationError(HaleError):
    """What a revision needs could not be fetched.

    `event` is the type of event that tells of it (`image.denied`, `volume.failed`, ...); `fatal` says that
    trying again helps only after somebody has changed something: the spec, a password, the registry.
    """

    def __init__(self, message: str, *, event: str, fatal: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.event = event
        self.fatal = fatal


class BalancerError(HaleError):
    """The gateway could not be started or told about a change."""


class StoreError(HaleError):
    """The database cannot be opened, read or written."""
