"""The client's view of who the auditors are today: bundle and successions of its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracles.resharings import replaced
from tests.unit.client.test_search_release import RELEASE, signed
from underseal_client.context import ClientContext
from underseal_client.release import open_release
from underseal_client.settings import ClientSettings
from underseal_core.errors import NotFound, PermissionRefused
from underseal_core.log_entries import encode_entry


def context_of(bundle: Path, successions: Path | None = None) -> ClientContext:
    return ClientContext(ClientSettings(bundle=bundle, successions=successions))


@pytest.mark.parametrize("named", [False, True], ids=["beside the bundle", "named"])
def test_release_counts_by_the_signatures_of_todays_members(tmp_path: Path, *, named: bool) -> None:
    before, after = replaced(2, 3)
    bundle = tmp_path / "bundle.usb"
    before.bundle.save(bundle)
    release = RELEASE.model_copy(update={"key_epoch": before.bundle.epoch})
    left = signed(release, before.identities[0], before.identities[2])
    came = signed(release, after.identities[0], after.identities[2])
    assert open_release(left, context_of(bundle).roster, None) == release
    with pytest.raises(PermissionRefused):
        open_release(came, context_of(bundle).roster, None)
    folder = tmp_path / "elsewhere" if named else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / "successions.jsonl"
    path.write_bytes(encode_entry(after.successions[0]) + b"\n")
    today = context_of(bundle, path if named else None).roster
    with pytest.raises(PermissionRefused, match="signed by 1 of the auditors"):
        open_release(left, today, None)
    assert open_release(came, today, None) == release


def test_named_file_of_successions_must_be_there(tmp_path: Path) -> None:
    before, _ = replaced(2, 3)
    before.bundle.save(tmp_path / "bundle.usb")
    with pytest.raises(NotFound, match="successions"):
        _ = context_of(tmp_path / "bundle.usb", tmp_path / "none").roster
