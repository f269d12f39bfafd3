"""What a benchmark leaves behind: figures, arguments and the machine, as JSON or as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from benchmarks.hardware import Hardware, hardware

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

F = TypeVar("F", bound="DataclassInstance")

_OUTPUT: Final = frozenset({"json", "out"})


@dataclass(frozen=True)
class Record(Generic[F]):
    """One run. ``problems``: what was wrong with the answers, in words."""

    benchmark: str
    at: str
    arguments: dict[str, object]
    figures: F
    problems: tuple[str, ...]
    hardware: Hardware


class Program:
    """Command line of a benchmark: its own options, and ``--json``.

    Parameters
    ----------
    name
        Of the module.
    doc
        Its docstring; the first line describes it.
    """

    def __init__(self, name: str, doc: str | None) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{name}", description=(doc or "").partition("\n")[0]
        )
        self.parser.add_argument("--json", action="store_true", help="print a record, no table")
        self.hardware = hardware()  # the load is that of others, before this program adds to it

    def parse(self) -> argparse.Namespace:
        """Return the options."""
        return self.parser.parse_args()

    def record(self, options: argparse.Namespace, figures: F, problems: Sequence[str]) -> Record[F]:
        """Return the figures with what they were measured with."""
        given = {name: value for name, value in vars(options).items() if name not in _OUTPUT}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Record(self.name, now, given, figures, tuple(problems), self.hardware)

    def finish(self, options: argparse.Namespace, figures: F, problems: Sequence[str] = ()) -> int:
        """Print figures and problems; return the exit code."""
        record = self.record(options, figures, problems)
        print(to_json(record) if options.json else to_text(record))
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
        return 1 if problems else 0


def to_json(record: Record[F]) -> str:
    """Return the record as indented JSON."""
    return json.dumps(asdict(record), indent=2, default=_plain)


def to_text(record: Record[F]) -> str:
    """Return figures and machine, one to a line."""
    rows = [*_flat(asdict(record.figures)), ("", ""), *_flat(asdict(record.hardware))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:>{width}}  {value}".rstrip() for name, value in rows)


def say(text: str) -> None:
    """Tell whoever watches how far a benchmark is."""
    print(text, file=sys.stderr, flush=True)


def _flat(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                yield from _flat(item, f"{prefix}{name}[{number}].")
        else:
            yield prefix + name, f"{value:,.4g}" if isinstance(value, float) else f"{value}"


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is no figure")
