"""k of n guardians, each of whom checks for itself; registrars and guardians that cheat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_guardians import Link, Releases, panel_of, same
from tests.auditor_world import AUDITOR, Answer, Desk, World, book_of, desk, policy, unit, world
from underseal_auditor.guardian import Dossier
from underseal_auditor.guardianship import opening_order
from underseal_auditor.keys.joint_opening import (
    MemberOpening,
    Occasion,
    OpeningFailed,
    OpeningOutOfTurn,
    ZeroCommitment,
)
from underseal_auditor.panel import Panel
from underseal_auditor.verify.chain import Place
from underseal_core.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
)
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.scheme.fields import pack_residues, residues_size
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Release

PROFILE = "swift"
PART = 10
"""Of a budget of 16, what one of three guardians lets pass at a threshold of two."""
ADVANCE = 8 + 1
"""What swift's policy may charge at most for one answer."""


@dataclass
class Bench:
    of: World
    desk: Desk
    panel: Panel
    links: list[Link]

    def only(self, *points: int) -> None:
        """Let just these guardians be reached."""
        for link in self.links:
            link.down = link.point not in points

    def dossier(self, answer: Answer) -> Dossier:
        return self.desk.dossier(answer)


@contextmanager
def bench_of(folder: Path, threshold: int, count: int) -> Iterator[Bench]:
    of, rules = world(PROFILE, threshold, count), policy(PROFILE)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book) as (panel, links),
        desk(folder, of, rules, guardian=panel, logbook=book) as office,
    ):
        yield Bench(of, office, panel, links)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_of(tmp_path, 2, 3) as made:
        yield made


def matching(of: World) -> Answer:
    return of.ask(of.people[3])


def missing(of: World) -> Answer:
    return of.ask(unit(1, 5)[0])


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_every_group_of_k_releases_and_signs(threshold: int, count: int, tmp_path: Path) -> None:
    for number, group in enumerate(combinations(range(1, count + 1), threshold)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with bench_of(folder, threshold, count) as bench:
            bench.only(*group)
            answer = matching(bench.of)
            envelope = bench.desk.envelope(answer)
            release = Release.open(envelope, AUDITOR.public_key)
            assert [match.subject_id for match in release.matches] == [
                bench.of.operator.entries[3].subject_id.hex()
            ]
            for point in group:
                Release.open(envelope, bench.of.members[point - 1].public_key)
            signers = {signature.public_key for signature in envelope.signatures}
            assert len(signers) == threshold + (1 not in group)
            for link in bench.links:
                assert link.total == (release.values_charged if link.point in group else 0)


@pytest.mark.parametrize(("threshold", "count"), [(2, 3), (3, 5)])
def test_fewer_than_k_guardians_open_nothing(threshold: int, count: int, tmp_path: Path) -> None:
    with bench_of(tmp_path, threshold, count) as bench:
        answer = missing(bench.of)
        for group in combinations(range(1, count + 1), threshold - 1):
            bench.only(*group)
            with pytest.raises(Busy, match="too few guardians"):
                bench.desk.envelope(answer)
        assert all("commit" not in link.calls for link in bench.links)
        bench.only(*range(1, count + 1))
        assert bench.desk.submit(answer).matches == ()


def test_second_answer_for_the_same_ciphertext_is_refused_in_any_group(bench: Bench) -> None:
    answer = missing(bench.of)
    dossier = bench.dossier(answer)
    bench.only(1, 2)
    opening = bench.panel.begin(dossier)
    opening.open(dossier.sealed.norm, 0.1)
    with pytest.raises(OpeningOutOfTurn):
        opening.open(dossier.sealed.norm, 0.1)
    bench.only(2, 3)
    with pytest.raises(Conflict, match="answered before"):
        bench.panel.begin(dossier)
    bench.only(1, 3)
    with pytest.raises(Conflict, match="answered before"):
        bench.panel.begin(dossier)


def test_probe_sent_again_under_a_new_request_is_not_answered_again(bench: Bench) -> None:
    of = bench.of
    probe = of.encryptor.encrypt_probe(unit(1, 5)[0])
    bench.desk.envelope(of.operator.search(of.request(probe), probe))
    again = bench.dossier(of.operator.search(of.request(probe), probe))
    bench.only(2, 3)
    opening = bench.panel.begin(again)
    with pytest.raises(Conflict, match="ciphertext of this result was answered"):
        opening.open(again.sealed.norm, 0.1)


def test_guardian_computes_the_norm_again(bench: Bench) -> None:
    first, second = missing(bench.of), missing(bench.of)
    norm = parse_ciphertext(first.sealed[Kind.NORM, 0], bench.of.bundle.profile, Kind.NORM)
    with pytest.raises(Damaged, match="not that of the probe"):
        bench.panel.begin(bench.dossier(second.changed(Kind.NORM, 0, norm)))


@pytest.mark.parametrize(
    "step",
    ["commit", "reveal", "take", "reveal_tests", "conclude_tests", "answer", "countersign"],
)
def test_guardian_killed_at_any_point_loses_nothing_and_answers_nothing_twice(
    bench: Bench, step: str
) -> None:
    answer = missing(bench.of)
    victim = bench.links[0]
    victim.dies_before = step
    with pytest.raises(Busy):
        bench.desk.envelope(answer)
    victim.start()
    if step == "answer" or step == "countersign":
        # The other guardian has answered: nobody opens this request again.
        with pytest.raises(Conflict, match="answered before"):
            bench.desk.envelope(answer)
        with pytest.raises(PermissionRefused, match="the auditors refuse"):
            bench.desk.envelope(answer)
        assert bench.links[1].total == (ADVANCE if step == "answer" else 0)
        assert victim.total == (0 if step == "answer" else ADVANCE)
    else:
        assert bench.desk.submit(answer).matches == ()
    again = missing(bench.of)
    assert bench.desk.submit(again).matches == ()


def test_registrar_cannot_open_what_the_client_did_not_sign(bench: Bench) -> None:
    answer = missing(bench.of)
    dossier = bench.dossier(answer)
    forged = dossier.chain.request.model_copy(update={"purpose": "border"})
    thief = Identity.generate()
    for envelope in (forged.sign(thief), forged.sign(AUDITOR)):
        with pytest.raises(PermissionRefused, match="not signed"):
            bench.panel.begin(replace(dossier, request=envelope))
    other = missing(bench.of)
    with pytest.raises(InvalidInput, match="another request"):
        bench.panel.begin(replace(dossier, result=other.envelopes[1]))


def test_guardian_applies_its_own_policy(tmp_path: Path) -> None:
    of = world(PROFILE, 2, 3)
    with bench_of(tmp_path, 2, 3) as bench:
        bench.links[1].rules = policy(PROFILE, serial=2, top_k=9)
        bench.links[1].stop()
        bench.links[1].start()
        with pytest.raises(Mismatch, match="guardian 2 has another policy"):
            bench.desk.envelope(missing(of))


def test_expired_request_is_refused_by_the_guardian(bench: Bench) -> None:
    dossier = bench.dossier(missing(bench.of))
    for link in bench.links:
        link.now = link.now.replace(year=link.now.year + 1)
    with pytest.raises(InvalidInput, match="expired"):
        bench.panel.begin(dossier)


def test_unsettled_openings_stay_charged_until_the_budget_is_used_up(bench: Bench) -> None:
    for _ in range(2):
        dossier = bench.dossier(missing(bench.of))
        bench.panel.begin(dossier).open(dossier.sealed.norm, 0.1)
    assert bench.links[0].total == 2 * ADVANCE > PART
    with pytest.raises(PermissionRefused, match="budget"):
        bench.panel.begin(bench.dossier(missing(bench.of)))


def release_of(bench: Bench, dossier: Dossier, **changes: object) -> Envelope:
    chain, request = dossier.chain, dossier.chain.request
    fields: dict[str, object] = {
        "request_id": request.request_id,
        "request_sha256": chain.request_sha256,
        "result_sha256": chain.result_sha256,
        "policy_sha256": policy(PROFILE).sha256,
        "key_epoch": bench.of.bundle.epoch,
        "client": request.client,
        "purpose": request.purpose,
        "case_reference": request.case_reference,
        "matches": (),
        "compared": chain.result.compared,
        "threshold": "0.6",
        "noise_std": "0.1",
        "values_charged": 0,
        "epoch_total": 0,
        "released_at": request.issued_at,
    }
    return Release.model_validate({**fields, **changes}).sign(AUDITOR)


TEMPLATE = {
    "template_id": "0" * 32,
    "label": "x",
    "enrolment_sha256": "0" * 64,
    "enroller_key": "0" * 64,
}
MATCH = {"subject_id": "0" * 32, "rank": 1, "score": "", "templates": (TEMPLATE,)}


@pytest.mark.parametrize(
    "changes",
    [
        {"request_sha256": "0" * 64},
        {"policy_sha256": "0" * 64},
        {"purpose": "border"},
        {"client": "bureau"},
        {"threshold": "0.2"},
        {"matches": (MATCH,), "values_charged": 0},
        {"matches": ({**MATCH, "score": "0.71"},), "values_charged": 1},
        {"values_charged": ADVANCE + 1},
    ],
)
def test_release_that_is_not_of_the_opening_is_not_countersigned(
    bench: Bench, changes: dict[str, object]
) -> None:
    dossier = bench.dossier(missing(bench.of))
    opening = bench.panel.begin(dossier)
    opening.open(dossier.sealed.norm, 0.1)
    with pytest.raises(PermissionRefused, match="countersign"):
        opening.countersign(release_of(bench, dossier, **changes))
    assert bench.links[0].total == ADVANCE
    assert len(opening.countersign(release_of(bench, dossier)).signatures) == 2
    assert bench.links[0].total == 0
    with pytest.raises(NotFound):
        opening.countersign(release_of(bench, dossier))


def test_release_beyond_a_guardians_part_of_the_budget_is_not_countersigned(bench: Bench) -> None:
    first = bench.dossier(missing(bench.of))
    bench.panel.begin(first).open(first.sealed.norm, 0.1)
    left = PART - ADVANCE
    dossier = bench.dossier(missing(bench.of))
    opening = bench.panel.begin(dossier)
    opening.open(dossier.sealed.norm, 0.1)
    with pytest.raises(PermissionRefused, match="countersign"):
        opening.countersign(release_of(bench, dossier, values_charged=left + 1))
    opening.countersign(release_of(bench, dossier, values_charged=left))
    assert [link.total for link in bench.links] == [PART, PART, 0]


def noise(data: bytes) -> bytes:
    of = world(PROFILE, 2, 3).bundle.profile
    level = len(data) // residues_size(of, 1)
    rows = [
        np.random.default_rng(prime).integers(0, prime, of.degree, dtype=np.uint32)
        for prime in of.data_primes[:level]
    ]
    return pack_residues(of, [np.stack(rows)])


def test_guardian_that_answers_nonsense_is_detected(bench: Bench) -> None:
    """Nothing is released, and nobody answers these ciphertexts again once it is honest."""
    answer = matching(bench.of)
    dossier = bench.dossier(answer)
    bench.links[1].answers = noise
    with pytest.raises(PermissionRefused, match="the auditors refuse"):
        bench.desk.envelope(answer)
    bench.links[1].answers = same
    with pytest.raises(PermissionRefused, match="the auditors refuse"):
        bench.desk.envelope(answer)
    entry, receipt = dossier.intent.entry, dossier.intent.receipt
    shown = replace(dossier, intent=bench.desk.logbook.append_once(entry, receipt).logged)
    for group in ((1, 2), (1, 3), (2, 3)):
        bench.only(*group)
        with pytest.raises(Conflict, match="answered before"):
            bench.panel.begin(shown)
    bench.only(1, 2, 3)
    assert bench.desk.submit(missing(bench.of)).matches == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [(lambda d: d[:-4], "malformed"), (lambda d: b"\xff" * len(d), "malformed")],
)
def test_malformed_answer_is_detected(
    bench: Bench, change: Callable[[bytes], bytes], text: str
) -> None:
    bench.links[1].answers = change
    with pytest.raises(OpeningFailed, match=text):
        bench.desk.envelope(matching(bench.of))


def test_guardian_that_reveals_other_zeros_than_committed_is_detected(bench: Bench) -> None:
    bench.links[1].zeros = lambda data: data[:-4] + bytes(4)
    with pytest.raises(OpeningFailed, match="member 2 revealed something else"):
        bench.desk.envelope(missing(bench.of))
    assert all("answer" not in link.calls for link in bench.links)


def member_opening(bench: Bench, point: int, active: tuple[int, ...]) -> MemberOpening:
    dossier = bench.dossier(missing(bench.of))
    occasion = Occasion(bench.of.bundle, bench.of.roster, b"s" * 32, active)
    ciphertexts = tuple(opening_order(dossier.sealed).values())
    identity = bench.of.members[point - 1]
    return MemberOpening(bench.of.shares[point - 1], identity, occasion, ciphertexts)


def test_registrar_cannot_choose_a_guardians_zeros(bench: Bench) -> None:
    first = member_opening(bench, 1, (1, 2))
    second = member_opening(bench, 2, (1, 2))
    forged = ZeroCommitment(2, b"d" * 32, second.commitment.signature)
    swapped = replace(second.commitment, point=1)
    with pytest.raises(OpeningFailed, match="not signed"):
        first.reveal((first.commitment, forged))
    with pytest.raises(OpeningFailed, match="one commitment of every"):
        first.reveal((first.commitment,))
    with pytest.raises(OpeningFailed, match="not signed"):
        first.reveal((swapped, second.commitment))
    other = member_opening(bench, 1, (1, 2))
    with pytest.raises(OpeningFailed, match="was changed"):
        first.reveal((other.commitment, second.commitment))
    zeros = second.reveal((first.commitment, second.commitment))
    with pytest.raises(OpeningOutOfTurn):
        first.take({2: zeros})
    first.reveal((first.commitment, second.commitment))
    with pytest.raises(OpeningOutOfTurn):
        first.answer(0, 0.1)
    with pytest.raises(OpeningFailed, match="something else"):
        first.take({2: bytes((zeros[0] ^ 1,)) + zeros[1:]})
    with pytest.raises(OpeningFailed, match="every active member"):
        first.take({3: zeros})


@pytest.mark.parametrize("active", [(1,), (1, 2, 3), (2, 1), (1, 1), (0, 1), (1, 4)])
def test_active_set_is_exactly_k_members(bench: Bench, active: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput):
        Occasion(bench.of.bundle, bench.of.roster, b"s" * 32, active)


def test_guardian_answers_only_in_a_group_that_it_is_in(bench: Bench) -> None:
    dossier = bench.dossier(missing(bench.of))
    with pytest.raises(InvalidInput, match="not active"):
        bench.links[2].commit(dossier, (1, 2), ())


def test_unknown_session_and_place_are_refused(bench: Bench) -> None:
    guardian = bench.links[0].desk
    calls: list[Callable[[], object]] = [
        lambda: guardian.reveal(b"x" * 16, ()),
        lambda: guardian.take(b"x" * 16, {}, frozenset()),
        lambda: guardian.answer(b"x" * 16, Place(Kind.NORM, 0)),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()


def test_openings_under_way_are_bounded_and_expire(bench: Bench) -> None:
    begun = []
    for _ in range(5):
        dossier = bench.dossier(missing(bench.of))
        begun.append((bench.panel.begin(dossier), dossier))
        for link in bench.links:
            link.now += timedelta(seconds=1)
    oldest, dossier = begun[0]
    with pytest.raises(NotFound, match="no such opening"):
        oldest.open(dossier.sealed.norm, 0.1)
    newest, dossier = begun[-1]
    newest.open(dossier.sealed.norm, 0.1)
    for link in bench.links:
        link.now += timedelta(minutes=11)
    with pytest.raises(NotFound, match="no such opening"):
        newest.open(dossier.sealed.results[0], 0.1)


def test_refused_openings_do_not_block_later_ones(bench: Bench) -> None:
    for _ in range(6):
        bench.panel.begin(bench.dossier(missing(bench.of)))
    assert bench.desk.submit(missing(bench.of)).matches == ()


def test_panel_needs_k_addresses_of_members(bench: Bench) -> None:
    links, rules = {link.point: link for link in bench.links}, policy(PROFILE)
    for wrong in ({1: links[1]}, {1: links[1], 4: links[2]}):
        with pytest.raises(InvalidInput, match="guardians are needed"):
            Panel(
                bench.of.bundle,
                bench.of.roster,
                lambda: rules.sha256,
                wrong,
                bench.desk.logbook.extends,
                Releases(),
            )
    exchanged = {1: links[2], 2: links[1]}
    swapped = Panel(
        bench.of.bundle,
        bench.of.roster,
        lambda: rules.sha256,
        exchanged,
        bench.desk.logbook.extends,
        Releases(),
    )
    with pytest.raises(Mismatch, match="is another one"):
        swapped.begin(bench.dossier(missing(bench.of)))
    swapped.close()
