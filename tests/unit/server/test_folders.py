"""The files of galleries in the data folder."""

from __future__ import annotations

from pathlib import Path

from underseal_server.store.folders import LocalPlaces

EPOCH = "ab" * 32


def test_looking_for_the_units_of_an_epoch_makes_no_folder(tmp_path: Path) -> None:
    places = LocalPlaces(tmp_path)
    assert places.units_of(7, EPOCH) is None
    places.of(7, EPOCH)
    places.delete_epoch(7, EPOCH, with_units=False)
    assert places.units_of(7, EPOCH) is not None
    assert not (tmp_path / "blocks/7" / EPOCH[:16]).exists()
    places.delete_epoch(7, EPOCH, with_units=True)
    assert places.units_of(7, EPOCH) is None
    assert not (tmp_path / "units/7" / EPOCH[:16]).exists()
