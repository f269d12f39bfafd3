from __future__ import annotations

import json
from dataclasses import replace

import pytest

from underseal_client.release import open_release, read_label
from underseal_client.resume import Asked
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.roster import Generation, Roster
from underseal_core.signing import Envelope, Identity, pre_authentication_encoding
from underseal_core.signing import Signature as Signed
from underseal_core.statements import Match, MatchedTemplate, Release

MEMBERS = [Identity.generate() for _ in range(3)]
STRANGER = Identity.generate()


EPOCH = "05" * 32
ROSTER = Roster(EPOCH, 2, Generation(0, EPOCH), tuple(member.public_key for member in MEMBERS))
TEMPLATE = MatchedTemplate(
    template_id="0a" * 16,
    label=json.dumps({"name": "Ada", "photo": "ada.jpg", "template": "0a" * 16}),
    enrolment_sha256="0c" * 32,
    enroller_key="0d" * 32,
)
MATCH = Match(subject_id="0b" * 16, rank=1, score="0.71", templates=(TEMPLATE,))
RELEASE = Release(
    request_id="01" * 16,
    request_sha256="02" * 32,
    result_sha256="03" * 32,
    policy_sha256="04" * 32,
    key_epoch=EPOCH,
    client="agency",
    purpose="reunification",
    case_reference="2026-17",
    matches=(MATCH,),
    compared=3,
    threshold="0.45",
    noise_std="0.001",
    values_charged=1,
    epoch_total=1,
    released_at="2026-05-01T12:00:02Z",
)
ASKED = Asked("01" * 16, "02" * 32, "03" * 32, EPOCH)


def signed(release: Release, *signers: Identity) -> Envelope:
    payload = release.payload()
    message = pre_authentication_encoding(Release.payload_type, payload)
    signatures = tuple(Signed(s.public_key, s.sign_bytes(message)) for s in signers)
    return Envelope(Release.payload_type, payload, signatures)


def test_release_signed_by_enough_auditors_is_opened() -> None:
    envelope = signed(RELEASE, MEMBERS[0], MEMBERS[2])
    assert open_release(envelope, ROSTER, ASKED) == RELEASE
    assert open_release(envelope, ROSTER, None) == RELEASE


@pytest.mark.parametrize(
    "signers",
    [[MEMBERS[0]], [MEMBERS[0], MEMBERS[0]], [MEMBERS[0], STRANGER], [STRANGER, STRANGER]],
    ids=["one", "one twice", "one and a stranger", "strangers"],
)
def test_release_signed_by_too_few_is_refused(signers: list[Identity]) -> None:
    with pytest.raises(PermissionRefused, match="of the auditors, not by 2"):
        open_release(signed(RELEASE, *signers), ROSTER, ASKED)


def test_signature_of_a_replaced_auditor_does_not_count() -> None:
    newcomer = Identity.generate()
    keys = (newcomer.public_key, *ROSTER.members[1:])
    later = replace(ROSTER, generation=Generation(1, "06" * 32), members=keys)
    with pytest.raises(PermissionRefused, match="signed by 1 of the auditors, not by 2"):
        open_release(signed(RELEASE, *MEMBERS[:2]), later, ASKED)
    assert open_release(signed(RELEASE, newcomer, MEMBERS[1]), later, ASKED) == RELEASE


def test_changed_release_is_refused() -> None:
    envelope = signed(RELEASE, *MEMBERS)
    forged = replace(envelope, payload=envelope.payload.replace(b"0.71", b"0.99"))
    with pytest.raises(PermissionRefused):
        open_release(forged, ROSTER, ASKED)


def test_another_statement_is_no_release() -> None:
    envelope = MEMBERS[0].sign("application/vnd.underseal.search-result.v1+json", b"{}")
    with pytest.raises(Damaged, match="something else"):
        open_release(envelope, ROSTER, ASKED)


@pytest.mark.parametrize("field", ["request_id", "request_sha256", "result_sha256"])
def test_release_of_another_request_is_refused(field: str) -> None:
    value = getattr(RELEASE, field).replace("0", "f")
    other = RELEASE.model_copy(update={field: value})
    with pytest.raises(Damaged, match="another request"):
        open_release(signed(other, *MEMBERS), ROSTER, ASKED)


def test_release_of_another_epoch_is_refused() -> None:
    other = RELEASE.model_copy(update={"key_epoch": "0" * 64})
    with pytest.raises(Damaged, match="epoch"):
        open_release(signed(other, *MEMBERS), ROSTER, None)


def test_label_is_read() -> None:
    label = read_label(TEMPLATE)
    assert (label.name, label.photo, label.case) == ("Ada", "ada.jpg", "")


@pytest.mark.parametrize(
    "text",
    ["", "Ada", "[]", "[" * 100_000, "1", json.dumps({"name": "Ada", "template": "ff" * 16})],
)
def test_label_that_is_not_ours_is_shown_as_it_is(text: str) -> None:
    assert read_label(TEMPLATE.model_copy(update={"label": text})).name == text
