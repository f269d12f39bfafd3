from __future__ import annotations

import pytest

from underseal_auditor.keys.fingerprint import WORDS, fingerprint
from underseal_core.errors import InvalidInput


def test_there_is_one_word_per_byte() -> None:
    assert len(WORDS) == len({word.lower() for word in WORDS}) == 256


def test_fingerprint_spells_the_first_sixteen_bytes() -> None:
    epoch = bytes(range(240, 256)).hex() + "00" * 16
    assert fingerprint(epoch).split() == list(WORDS[240:256])
    # Published examples of the PGP word list: E5 = topmost, 82 = miser, 03... in even positions.
    assert WORDS[0xE5] == "topmost"
    assert WORDS[0x82] == "miser"


@pytest.mark.parametrize("epoch", ["", "00" * 31, "zz" * 32])
def test_anything_else_than_an_epoch_is_refused(epoch: str) -> None:
    with pytest.raises(InvalidInput):
        fingerprint(epoch)
