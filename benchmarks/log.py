"""Transparency log: durable appends, opening, proofs, verification.

    python -m benchmarks.log [--entries 100000] [--directory DIR] [--json]

The directory should be on the disk that the log will live on: fsync decides the rates.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import Program
from benchmarks.timing import Spread, spread
from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner
from underseal_core.tlog.proof import verify_receipt

ENTRY_BYTES = 400
BATCH = 100
THREADS = 16
PROOFS = 500
"""As many are measured, at most."""


def entry(index: int) -> bytes:
    """Return an entry about as long as a release's."""
    return (b"%012d" % index).ljust(ENTRY_BYTES, b".")


def append_singly(log: TransparencyLog, count: int) -> float:
    """Return entries per second, one caller that waits for every entry."""
    start = time.perf_counter()
    for index in range(log.size, log.size + count):
        log.append(entry(index))
    return count / (time.perf_counter() - start)


def append_from_threads(log: TransparencyLog, count: int) -> float:
    """Return entries per second, callers at once, each waiting for its own entry."""
    each = count // THREADS

    def work() -> None:
        for index in range(each):
            log.append(entry(index))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return each * THREADS / (time.perf_counter() - start)


def append_batches(log: TransparencyLog, until: int) -> float:
    """Return entries per second, a hundred to a commit."""
    first = log.size
    start = time.perf_counter()
    while log.size < until:
        size = log.size
        log.append_many([entry(i) for i in range(size, min(size + BATCH, until))])
    return (until - first) / (time.perf_counter() - start)


def proof_times(log: TransparencyLog) -> tuple[Spread, float, float]:
    """Return ms for receipts; for a consistency proof, and for checking a receipt, in the mean."""
    chosen = random.Random(1).sample(range(1, log.size), min(PROOFS, log.size - 1))  # noqa: S311 (no secret)
    receipts, took = [], []
    for index in chosen:
        start = time.perf_counter()
        receipts.append(log.receipt(index))
        took.append(1000 * (time.perf_counter() - start))
    start = time.perf_counter()
    for old in chosen:
        log.witness_request(old)
    consistency = 1000 * (time.perf_counter() - start) / len(chosen)
    bodies = {index: log.reader.bundle(index // 256, log.size)[index % 256] for index in chosen}
    start = time.perf_counter()
    for receipt in receipts:
        verify_receipt(receipt, bodies[receipt.index], log.key)
    return spread(took), consistency, 1000 * (time.perf_counter() - start) / len(chosen)


@dataclass(frozen=True)
class Report:
    """What one run measured. Rates in entries per second."""

    entries: int
    append_one_caller: float
    append_16_callers: float
    append_batches_of_100: float
    open_seconds: float
    receipt_ms: Spread
    consistency_proof_ms: float
    receipt_checked_ms: float
    verify_seconds: float


def measure(directory: Path, entries: int) -> Report:
    """Build a log of ``entries`` entries and measure everything on it."""
    signer = NoteSigner("log.example/benchmark", Identity.generate())
    some = min(4000, entries // 4)
    with TransparencyLog.create(directory / "log", signer) as log:
        singly = append_singly(log, some)
        together = append_from_threads(log, some)
        batches = append_batches(log, entries)
    start = time.perf_counter()
    with TransparencyLog(directory / "log", signer) as log:
        opened = time.perf_counter() - start
        receipt, consistency, checked = proof_times(log)
    start = time.perf_counter()
    verify_log(directory / "log", signer.key)
    return Report(
        entries=entries,
        append_one_caller=singly,
        append_16_callers=together,
        append_batches_of_100=batches,
        open_seconds=opened,
        receipt_ms=receipt,
        consistency_proof_ms=consistency,
        receipt_checked_ms=checked,
        verify_seconds=time.perf_counter() - start,
    )


def main() -> int:
    """Measure and print."""
    program = Program("log", __doc__)
    program.parser.add_argument("--entries", type=int, default=100_000)
    program.parser.add_argument("--directory", type=Path, help="for the log (default: temporary)")
    options = program.parse()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        report = measure(Path(directory), options.entries)
    return program.finish(options, report)


if __name__ == "__main__":
    sys.exit(main())
