"""A run that fails leaves no secret in memory; shares are tested at every prime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.oracles.ceremony_steps import deliver_forged, machines_before, step
from underseal_auditor.keys.contribution import SecretPart
from underseal_auditor.keys.dealing import Parcels
from underseal_auditor.keys.messages import CeremonyFailed, Round
from underseal_auditor.keys.sampling import Stream
from underseal_auditor.keys.share import Share, ShareClosed
from underseal_auditor.keys.sharing import deal
from underseal_core.scheme.profiles import Profile


def test_secrets_of_a_failed_ceremony_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own secrets before the shares are dealt, dealt values and the share after it."""
    parts: list[SecretPart] = []
    shares: list[Share] = []
    dealt: list[npt.NDArray[np.uint32]] = []

    class RecordedPart(SecretPart):
        def __init__(self, profile: Profile, secrets: Stream, noise: Stream) -> None:
            super().__init__(profile, secrets, noise)
            parts.append(self)

    class RecordedShare(Share):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            shares.append(self)

    class RecordedParcels(Parcels):
        def __exit__(self, *arguments: object) -> None:
            assert all(value.any() for value in self.values)
            dealt.extend(self.values)
            super().__exit__(None, None, None)

    monkeypatch.setattr("underseal_auditor.keys.phases.SecretPart", RecordedPart)
    monkeypatch.setattr("underseal_auditor.keys.dealing.Share", RecordedShare)
    monkeypatch.setattr("underseal_auditor.keys.phases.Parcels", RecordedParcels)
    for round_ in (Round.CONTRIBUTION, Round.RELINEARISATION, Round.PARTIAL_DECRYPTION):
        machines = machines_before(round_)
        with machines[0], pytest.raises(CeremonyFailed, match="member 3 is malformed"):
            deliver_forged(machines, lambda payload: payload[:-1])
        assert not parts[0].element.any()
        for each in (parts, shares, dealt):
            each.clear()
    machines = machines_before(Round.PARTIAL_DECRYPTION)
    with machines[0], pytest.raises(CeremonyFailed):
        deliver_forged(machines, lambda payload: payload[:-1])
    assert len(shares) == 3
    with pytest.raises(ShareClosed):
        _ = shares[0].secret
    assert len(dealt) == 9
    assert not any(value.any() for value in dealt)


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_share_that_is_wrong_modulo_one_prime_fails_the_known_answer(
    position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dummy search ends at the first primes; the others count when keys are switched."""
    machines = machines_before(Round.RELINEARISATION)
    calls = []

    def cheat(*arguments: Any) -> list[npt.NDArray[np.uint32]]:
        values = deal(*arguments)
        calls.append(1)
        if len(calls) == 3:
            values[2][position, 0] ^= 1
        return values

    monkeypatch.setattr("underseal_auditor.keys.phases.deal", cheat)
    step(machines)
    step(machines)
    with pytest.raises(CeremonyFailed, match="do not open the known answer"):
        step(machines)
