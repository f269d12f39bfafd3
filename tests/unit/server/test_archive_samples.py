"""Archives of every version of the format stay readable: one of each is kept.

The samples' keys and ciphertexts are patterns, so that they compress: what is tested is that the
same file gives the same gallery, bit for bit, for good. Nothing in them opens to anything.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from tests.archive_fixtures import opened_folder
from underseal_server.check import Checker

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "archives"


@pytest.mark.parametrize("facts", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_stored_archive_gives_the_gallery_that_it_was_made_of(
    facts: Path, tmp_path: Path
) -> None:
    known = json.loads(facts.read_text())
    path = tmp_path / "archive"
    path.write_bytes(lzma.decompress(facts.with_suffix(".archive.xz").read_bytes()))
    with opened_folder(tmp_path / "data") as folder:
        seal = folder.load(path, frozenset({bytes.fromhex(known["signer"])}))
        view = folder.gallery("sample").view()
        assert view.root == known["root"] == seal.snapshot_root
        assert (view.version, view.templates) == (known["version"], known["templates"])
        assert {str(block): root for block, root in view.blocks.items()} == known["tiles_roots"]
        row = folder.store.galleries.get("sample")
        assert row.spec.writers == {"agency", "office"}
        named = [[one.version, one.root, one.templates] for one in folder.store.snapshots.all(row)]
        assert named == known["history"]
        (archive,) = folder.store.archives.all("sample")
        assert archive.sha256 == known["archive_sha256"]
        assert folder.store.rotations.left(row) == {"ab" * 32: "2026-11-22T05:00:01Z"}
    assert Checker(tmp_path / "data", lambda: None, deep=True, threads=1).run().accounted
