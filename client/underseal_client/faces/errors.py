"""Why a photo or a model pack cannot be used.

All of them are raised on the client's own machine, so they may give the detector's figures of
that photo; they never hold a template or a path.
"""

from __future__ import annotations

from typing import ClassVar

from underseal_core.errors import (
    Busy,
    Damaged,
    InvalidInput,
    NotFound,
    PermissionRefused,
    UndersealError,
)


class PhotoRefused(InvalidInput):
    """This photo cannot become a template; another one of the same person may."""

    reason: ClassVar[str] = "refused"
    """Stable word for reports and ``--json``."""


class UnreadablePhoto(PhotoRefused):
    """Not a photo in a known format, cut off, or larger than the limits allow."""

    reason = "unreadable"


class PhotoChanged(PhotoRefused):
    """The file is no longer the one that was scanned."""

    reason = "changed"

    def __init__(self) -> None:
        super().__init__("the file changed after it was scanned", hint="scan the folder again")


class NoFace(PhotoRefused):
    """The detector found nothing."""

    reason = "no-face"

    def __init__(self) -> None:
        super().__init__("no face found", hint="use a photo that shows the whole face")


class SeveralFaces(PhotoRefused):
    """More than one face, and nobody said which one is meant.

    Parameters
    ----------
    count
        How many faces passed the detector's bar.
    """

    reason = "several-faces"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} faces found, one wanted",
            hint="crop the photo, or take the largest face (--largest-face)",
        )
        self.count = count


class FaceTooSmall(PhotoRefused):
    """Too few pixels to tell people apart.

    Parameters
    ----------
    pixels, wanted
        Shorter side of the face's box, and the policy's bar, in pixels of the photo.
    """

    reason = "face-too-small"

    def __init__(self, pixels: float, wanted: float) -> None:
        super().__init__(
            f"the face is {pixels:.0f} pixels wide or high, at least {wanted:.0f} wanted",
            hint="use a larger original of the photo",
        )
        self.pixels = pixels
        self.wanted = wanted


class UncertainFace(PhotoRefused):
    """The detector's score is below the policy's bar.

    Parameters
    ----------
    score, wanted
        Detector scores in 0..1.
    """

    reason = "uncertain-face"

    def __init__(self, score: float, wanted: float) -> None:
        super().__init__(
            f"the detector is only {score:.2f} sure that this is a face, {wanted:.2f} wanted",
            hint="use a photo with an unobstructed, well lit face",
        )
        self.score = score
        self.wanted = wanted


class UnclearFace(PhotoRefused):
    """The embedding is too short: what a blurred, dark or covered face yields.

    Parameters
    ----------
    norm, wanted
        Euclidean norms of the embedding before it is scaled to one, in the model's own unit.
    """

    reason = "unclear-face"

    def __init__(self, norm: float, wanted: float) -> None:
        super().__init__(
            f"the face is unclear: embedding norm {norm:.1f}, at least {wanted:.1f} wanted",
            hint="use a sharper photo with the face uncovered",
        )
        self.norm = norm
        self.wanted = wanted


class TurnedFace(PhotoRefused):
    """The face is turned away further than the policy allows.

    Parameters
    ----------
    turn, allowed
        See ``FaceQuality.turn``.
    """

    reason = "turned-face"

    def __init__(self, turn: float, allowed: float) -> None:
        super().__init__(
            f"the face is turned away: {turn:.1f}, at most {allowed:.1f} allowed",
            hint="use a photo in which both eyes are seen",
        )
        self.turn = turn
        self.allowed = allowed


class ModelMissing(NotFound):
    """The model pack is not installed on this machine."""


class ModelDamaged(Damaged):
    """Files of a model pack contradict its manifest, or are no face models."""


class LicenceNotAccepted(PermissionRefused):
    """The pack is licensed for non-commercial research only and nobody accepted that."""


class DownloadFailed(Busy):
    """A model pack could not be fetched; the network may be back later."""


class RuntimeUnavailable(UndersealError):
    """A library that the face models need cannot be loaded: install it."""
