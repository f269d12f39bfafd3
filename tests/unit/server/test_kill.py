"""SIGKILL at every step that touches the disk: nothing answered is lost, nothing is doubled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests import killed_store
from tests.killed_store import check, prepare, run
from tests.unit.server.kill_child import Place
from underseal_core.scheme.evaluation import Evaluator

evaluator = killed_store.evaluator
work = killed_store.work
zygote = killed_store.zygote


def test_a_kill_at_any_step_loses_and_doubles_nothing(
    zygote: subprocess.Popen[str], tmp_path: Path, evaluator: Evaluator
) -> None:
    steps = 0
    killed = True
    while killed:
        steps += 1
        data = tmp_path / str(steps)
        prepare(data)
        place = Place(str(data))
        answered, killed = run(zygote, place, steps)
        check(place, answered, evaluator)
        if steps % 4 == 0:
            # The next run repeats every unit under its token and ends like a run without kill.
            again, died = run(zygote, place, 0)
            assert not died
            check(place, again, evaluator)
        shutil.rmtree(data)
    assert steps > 20
