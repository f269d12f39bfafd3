"""Errors that every role shares, by what the caller does next.

``public`` is the only text that may cross the network: it names what happened and what to do,
never a score, a label, a key or a path. Roles derive their own errors from these classes, so one
translator per role suffices (``InvalidInput`` -> INVALID_ARGUMENT and so on).
"""

from __future__ import annotations


class UndersealError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    public
        What happened, in words that any peer may read.
    hint
        What to do next; empty when there is nothing to add.
    """

    def __init__(self, public: str, *, hint: str = "") -> None:
        super().__init__(public)
        self.public = public
        self.hint = hint


class InvalidInput(UndersealError):
    """The request can never succeed as it is: fix it."""


class MalformedCiphertext(InvalidInput):
    """Bytes that are not the ciphertext the receiver asked for."""


class NotFound(UndersealError):
    """The named gallery, template, bundle or request does not exist."""


class Conflict(UndersealError):
    """The name or request id is already taken, with other content."""


class Mismatch(UndersealError):
    """Model, dimension, profile or key epoch differ from what the gallery is pinned to."""


class PermissionRefused(UndersealError):
    """The caller's role, certificate, signature or policy does not allow this."""


class Busy(UndersealError):
    """Try again later.

    Parameters
    ----------
    retry_after_ms
        Hint for the caller, in milliseconds.
    """

    def __init__(self, public: str, *, retry_after_ms: int = 1000, hint: str = "") -> None:
        super().__init__(public, hint=hint)
        self.retry_after_ms = retry_after_ms


class Unreachable(Busy):
    """The peer does not answer: not running, not at this address, or it went away."""


class Waiting(UndersealError):
    """A person has to decide first: ask again later, with what the hint says."""


class StorageFull(UndersealError):
    """No room to store; nothing was changed. Call the operator."""


class Damaged(UndersealError):
    """Data contradicts itself (checksum, signature, proof). Call the operator."""
