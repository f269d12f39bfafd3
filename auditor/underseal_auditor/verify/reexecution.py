"""A server's result, computed again from the probe and an auditor's own copy of the gallery.

The arithmetic is exact and public, so equal means equal to the bit: a result that passes is the
result, whoever computed it. No other ciphertext is ever opened. That is what stops the decryption
of chosen ciphertexts, such as ``c = (0, K)``, whose decryption is ``K * s``, the whole key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from underseal_auditor.verify.chain import Sealed
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator

BLOCKS_PER_CALL: Final = 4
"""Blocks scored together: the probe stays in cache."""


def check_reexecuted(
    evaluator: Evaluator, probe: Ciphertext, sealed: Sealed, tiles: Mapping[int, Residues]
) -> None:
    """Compare NORM and every RESULT with what the signed probe gives.

    Parameters
    ----------
    evaluator
        Of the bundle in force. Nothing is opened, and nothing secret is needed.
    probe
        As the client signed for it, or made of an enrolled template.
    tiles
        The auditor's own blocks, those of the results and no others.

    Raises
    ------
    ServerFault
        One of them is of something else.
    """
    own = evaluator.prepare(probe)
    if not _same(own.norm, sealed.norm):
        raise ServerFault(Rule.CHECKS)
    if set(tiles) != set(sealed.results):
        raise ServerFault(Rule.BLOCKS)
    for some in _groups(sorted(tiles)):
        (scored,) = evaluator.score_many([own.probe], [tiles[number] for number in some])
        for number, result in zip(some, scored, strict=True):
            if not _same(result, sealed.results[number]):
                raise ServerFault(Rule.RESULT)


def _groups(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), BLOCKS_PER_CALL):
        yield numbers[start : start + BLOCKS_PER_CALL]


def _same(own: Ciphertext, sent: Ciphertext) -> bool:
    return np.array_equal(own.residues, sent.residues)
