"""What only a dishonest or broken server can be the cause of."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from underseal_core.errors import Damaged


class Rule(StrEnum):
    """What a server's signed result breaks; these names go to the log."""

    CATALOGUE = "catalogue"
    BLOCKS = "blocks"
    TILES = "tiles"
    CHECKS = "checks"
    RESULT = "result"
    FROZEN = "frozen"


TEXTS: Final = {
    Rule.CATALOGUE: "the server's catalogue is not the one that its result was signed for",
    Rule.BLOCKS: "the server's result does not hold exactly the blocks to compare with",
    Rule.TILES: "the server's blocks do not hold what was enrolled in them",
    Rule.CHECKS: "the server's norm is not that of the probe",
    Rule.RESULT: "the server's result is not what the probe and the gallery give",
    Rule.FROZEN: "the auditors do not trust this server any more",
}


class ServerFault(Damaged):
    """A server signed something that is not true. It is frozen until the auditors lift that."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(TEXTS[rule], hint="nothing was opened; tell the auditors and the operator")
        self.rule = rule
