"""Transparency log: durable appends, opening, proofs, verification. Prints a table.

    python benchmarks/log.py [--entries 100000] [--directory DIR] [--json]

The directory should be on the disk that the log will live on: fsync decides the rates.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner
from underseal_core.tlog.proof import verify_receipt

ENTRY_BYTES = 400
BATCH = 100
THREADS = 16
PROOFS = 500


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


def proof_times(log: TransparencyLog) -> dict[str, float]:
    """Return milliseconds for receipts, consistency proofs and checking receipts."""
    chosen = random.Random(1).sample(range(1, log.size), PROOFS)  # noqa: S311 (no secret)
    receipts, took = [], []
    for index in chosen:
        start = time.perf_counter()
        receipts.append(log.receipt(index))
        took.append(time.perf_counter() - start)
    start = time.perf_counter()
    for old in chosen:
        log.witness_request(old)
    consistency = (time.perf_counter() - start) / PROOFS
    bodies = {index: log.reader.bundle(index // 256, log.size)[index % 256] for index in chosen}
    start = time.perf_counter()
    for receipt in receipts:
        verify_receipt(receipt, bodies[receipt.index], log.key)
    return {
        "receipt, mean, ms": 1000 * sum(took) / PROOFS,
        "receipt, slowest, ms": 1000 * max(took),
        "consistency proof, mean, ms": 1000 * consistency,
        "receipt checked, mean, ms": 1000 * (time.perf_counter() - start) / PROOFS,
    }


def measure(directory: Path, entries: int) -> dict[str, float]:
    """Build a log of ``entries`` entries and measure everything on it."""
    signer = NoteSigner("log.example/benchmark", Identity.generate())
    some = min(4000, entries // 4)
    with TransparencyLog.create(directory / "log", signer) as log:
        figures = {"entries": float(entries), "append, one caller, 1/s": append_singly(log, some)}
        figures[f"append, {THREADS} callers, 1/s"] = append_from_threads(log, some)
        figures[f"append, batches of {BATCH}, 1/s"] = append_batches(log, entries)
    start = time.perf_counter()
    with TransparencyLog(directory / "log", signer) as log:
        figures["open, s"] = time.perf_counter() - start
        figures.update(proof_times(log))
    start = time.perf_counter()
    verify_log(directory / "log", signer.key)
    figures["verify whole log, s"] = time.perf_counter() - start
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, help="where to put the log (default: temporary)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures = measure(Path(directory), options.entries)
    if options.json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, value in figures.items():
        sys.stdout.write(f"{name:32} {value:12,.2f}\n")


if __name__ == "__main__":
    main()
