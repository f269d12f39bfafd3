"""Logs: one JSON object per line on stderr, with everything that must not be there taken out.

Messages are constants and values are keyword arguments, so the redaction below sees them all:
bytes and arrays are replaced by their size, sensitive keys by a mark, long texts are cut.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

SENSITIVE: Final = frozenset(
    {
        "label",
        "labels",
        "sealed_label",
        "score",
        "scores",
        "vector",
        "vectors",
        "embedding",
        "probe",
        "ciphertext",
        "residues",
        "key",
        "keys",
        "private_key",
        "share",
        "secret",
        "passphrase",
        "password",
        "token",
        "subject",
        "photo",
    }
)
REDACTED: Final = "[redacted]"
MAX_TEXT: Final = 1000
"""Longest text value of a log line; longer ones are cut."""


def _clean(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "..."
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, dict) and depth < 8:
        return {
            str(key): REDACTED if str(key).lower() in SENSITIVE else _clean(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple) and depth < 8:
        return [_clean(item, depth + 1) for item in value[:100]]
    return f"[{type(value).__name__}]"


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Structlog processor: replace sensitive keys, bytes, arrays and unknown objects."""
    cleaned: EventDict = _clean(dict(event))
    return cleaned


def configure(level: str = "INFO") -> None:
    """Send structlog and the standard library's logging to stderr as JSON lines.

    Parameters
    ----------
    level
        Name of the lowest level that is written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Without locals: they hold vectors and keys.
        structlog.processors.ExceptionRenderer(
            ExceptionDictTransformer(show_locals=False, max_frames=20)
        ),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if level != "DEBUG":
        logging.getLogger("alembic").setLevel(logging.WARNING)  # says how, never what
