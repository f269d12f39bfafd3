"""SIGKILL while a process appends: what it acknowledged is there after reopening."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from underseal_core.signing import Identity
from underseal_core.tlog.audit import verify_log
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner

CHILD = """
import sys
from pathlib import Path
from underseal_core.signing import Identity
from underseal_core.tlog.log import TransparencyLog
from underseal_core.tlog.note import NoteSigner

directory, key, batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
log = TransparencyLog(directory, NoteSigner("log.example/kill", Identity.load(key)))
while True:
    first = log.size
    log.append_many([b"entry %d" % i for i in range(first, first + batch)])
    print(log.size, flush=True)
"""


@pytest.mark.parametrize("batch", [1, 60])
def test_sigkill_while_appending(tmp_path: Path, batch: int) -> None:
    directory, key = tmp_path / "log", tmp_path / "key.pem"
    identity = Identity.generate()
    identity.save(key)
    signer = NoteSigner("log.example/kill", identity)
    TransparencyLog.create(directory, signer).close()
    known = []
    for round_ in range(4):
        command = [sys.executable, "-c", CHILD, str(directory), str(key), str(batch)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(10 + 7 * round_):
                acknowledged = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            later = child.stdout.read().split()
            acknowledged = int(later[-1]) if later else acknowledged
        assert child.returncode == -signal.SIGKILL
        with TransparencyLog(directory, signer) as log:
            assert log.size >= acknowledged
            assert [e for _, e in log.reader.entries(log.size)] == [
                b"entry %d" % i for i in range(log.size)
            ]
            known.append(log.checkpoint)
        verify_log(directory, signer.key, known)
