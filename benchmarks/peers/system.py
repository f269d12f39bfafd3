"""What is measured: something that enrols templates and compares a probe with all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmarks.inputs import Inputs

ENCRYPTED: Final = "encrypted"
CLEAR: Final = "in clear"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a system before it runs.

    Parameters
    ----------
    package
        That it comes from, to name its version.
    probe, gallery
        As the comparing machine holds them.
    enrolment
        The key that it takes to enrol a template.
    opens
        Who can open a score, and with it any template.
    open_to
        What it does not protect from.
    tolerance
        A score that is off by more is wrong.
    threaded
        It has threads of its own; otherwise a process for each core compares a part of the gallery.
    most
        Templates to measure with, because it is slow; what more of them cost is extrapolated.
    together
        Templates whose comparison cannot be had for less than all of them.
    runs
        Of which the best counts.
    """

    name: str
    package: str
    probe: str
    gallery: str
    enrolment: str
    opens: str
    open_to: str
    tolerance: float
    threaded: bool
    most: int
    together: int
    runs: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. ``keys``: what the comparing machine needs to compare."""

    template: float
    query: int
    keys: int


class System(Protocol):
    """A gallery in one system, enrolled when it is made.

    Between the calls stands whatever the system has: a query is what a client sends, a prepared
    query what the comparing machine makes of it once, an answer what it sends back.
    """

    about: ClassVar[About]

    def __init__(self, given: Inputs) -> None:
        """Make keys and enrol the templates."""

    def query(self) -> Any:
        """Encrypt the probe."""

    def prepare(self, query: Any, threads: int) -> Any:
        """Do what a query takes whatever the size of the gallery."""

    def compare(self, prepared: Any, threads: int) -> Any:
        """Compare with every template."""

    def open(self, answer: Any) -> npt.NDArray[np.float64]:
        """Return the scores, ``(templates,)``."""

    def sizes(self) -> Sizes:
        """Return what a template, a query and the keys take."""
