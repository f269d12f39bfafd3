"""SIGKILL at every step that touches the disk: nothing answered is lost, nothing is doubled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests import killed_store
from tests.killed_store import check, prepare, run
from tests.unit.server.kill_child import Place
from underseal_core.scheme.evaluation import Evaluator

                evaluator.add(expected, evaluator.expand(ciphertext), first)
                evaluator.add_column(expected, index, ciphertext.residues, first)
            else:
            first = unit.placement.first_slot
            if unit.shape is Shape.ROW:
        (folder / f"{number}.{shape}.{len(part)}").write_bytes(data)
        [(Shape.ROW, vectors[:2]), (Shape.COLUMNS, vectors[2:8]), (Shape.ROW, vectors[8:])]
        [sys.executable, str(CHILD), str(work)],
        cwd=ROOT,
        data = b"".join(ciphertext.to_bytes() for ciphertext in sealed)
        for index, ciphertext in enumerate(opened.files.ciphertexts(unit)):
        sealed = [LAB.row(part)] if shape is Shape.ROW else LAB.columns(part)
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        yield evaluator
    """A process that has imported everything and forks for every run."""
    """Let a child die at ``step`` (0: never); return what it answered and whether it died."""
    """The bundle and the ciphertexts that every child enrols."""
    )
    ):
    LAB.bundle.save(folder / "bundle.usb")
    answer = json.loads(zygote.stdout.readline())
    assert Checker(data, lambda: None, deep=True, threads=1).run().problems == []
    assert answer["status"] in (0, signal.SIGKILL)
    assert enrolled - removed - {begun} <= set(live) <= (enrolled - removed) | {begun}
    assert len(templates) == sum(unit.placement.count for unit in live.values())
    assert len({(template.block, template.slot) for template in templates}) == len(templates)
    assert list(opened.view().blocks) == ([0] if live else [])
    assert names == {f"{token}.unit" for token in live}
    assert np.array_equal(opened.tiles(0), expected)
    assert process.returncode == 0
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    begun = answered[-1]["token"] if answered and answered[-1]["did"].endswith("ing") else ""
    enrolled = {answer["token"] for answer in answered if answer["did"] == "enrolled"}
    expected = np.zeros_like(opened.tiles(0))
    folder = tmp_path_factory.mktemp("work")
    for number, (shape, part) in enumerate(
    for unit in live.values():
    gallery = store.galleries.create(spec, store.clock())
    live = {unit.token.hex(): unit for unit in store.units.live(gallery)}
    names = {path.name for path in opened.files.path(b"").parent.iterdir()}
    opened = store.open_gallery(gallery, evaluator)
    opened.checkpoint()  # what differs from the catalogue is folded in or out, and forgotten
    process = subprocess.Popen(
    process.communicate()
    removed = {answer["token"] for answer in answered if answer["did"] == "removed"}
    return answer["told"], answer["status"] != 0
    return folder
    show_pending(opened)
    spec = GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 8)
    store = Store(data)
    store.close()
    templates = store.templates.page(gallery, TemplateFilter(), (-1, -1), 100)
    vectors = unit_vectors(9)
    with LAB.evaluator() as evaluator:
    yield process
    zygote.stdin.flush()
    zygote.stdin.write(f"{step} {data}\n")
@pytest.fixture(scope="module")
CHILD = Path(__file__).with_name("kill_child.py")
LAB = Lab()
ROOT = Path(__file__).resolve().parents[3]
def check(data: Path, answered: list[dict[str, str]], evaluator: Evaluator) -> None:
def evaluator() -> Iterator[Evaluator]:
def run(zygote: subprocess.Popen[str], data: Path, step: int) -> tuple[list[dict[str, str]], bool]:
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
def zygote(work: Path) -> Iterator[subprocess.Popen[str]]:
evaluator = killed_store.evaluator
from underseal_server.check import Checker
from underseal_server.store.records import GallerySpec, TemplateFilter
from underseal_server.store.store import Store
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
