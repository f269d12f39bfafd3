"""The registrar on honest submissions, with real keys and a real encrypted gallery."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.auditor_world import (
    AGENCY,
    FIRST_BLOCK,
    OTHER,
    Desk,
    at_cosine,
    desk,
    policy,
    unit,
    world,
)
from underseal_auditor.policy.budget import budget_rule
from underseal_core.errors import NotFound, PermissionRefused
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.scheme.profiles import GUARDED
from underseal_core.statements import Release, Targets, Wanted


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, world(), policy()) as opened:
        yield opened


def test_match_is_released_with_score_and_label(office: Desk) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.8))
    release = office.submit(answer)
    (match,) = release.matches
    assert match.templates[0].template_id == of.operator.entries[3].template_id.hex()
    assert match.subject_id == of.operator.entries[3].subject_id.hex()
    assert match.score == "0.80"
    assert match.rank == 1
    assert json.loads(match.templates[0].label) == {"name": "person-of-0-3"}


def test_release_names_everything_it_answers(office: Desk) -> None:
    of = world()
    answer = of.ask(of.people[3])
    release = office.submit(answer)
    assert release.request_id == answer.request.request_id
    assert release.request_sha256 == answer.request.sha256()
    assert release.result_sha256 == answer.result.sha256()
    assert release.policy_sha256 == policy().sha256
    assert release.key_epoch == of.bundle.epoch
    assert (release.client, release.purpose) == ("agency", "missing-person")
    assert release.compared == len(of.people)
    assert Decimal(release.threshold) == Decimal("0.6")
    assert release.values_charged == 1
    assert release.epoch_total == 1
    assert float(release.noise_std) == pytest.approx(2**-10.2, rel=0.01)


def test_second_block_is_searched_too(office: Desk) -> None:
    of = world()
    release = office.submit(of.ask(of.people[FIRST_BLOCK + 2]))
    assert [m.templates[0].template_id for m in release.matches] == [
        of.operator.entries[FIRST_BLOCK + 2].template_id.hex()
    ]


def test_no_match_is_a_release_and_costs_nothing(office: Desk) -> None:
    release = office.submit(world().ask(unit(1, seed=1234)[0]))
    assert release.matches == ()
    assert release.values_charged == 0


def test_labels_of_others_stay_sealed(office: Desk) -> None:
    of = world()
    payload = office.envelope(of.ask(of.people[3])).payload.decode()
    assert "person-of-0-3" in payload
    others = [json.loads(label)["name"] for label in of.labels if "0-3" not in label]
    assert not [name for name in others if f"{name}\\" in payload]


def test_client_may_raise_the_threshold(office: Desk) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.8), wanted=Wanted(top_k=3, threshold="0.9"))
    release = office.submit(answer)
    assert release.matches == ()
    assert Decimal(release.threshold) == Decimal("0.9")


def test_client_cannot_lower_the_threshold(office: Desk) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.5), wanted=Wanted(top_k=3, threshold="0.1"))
    release = office.submit(answer)
    assert release.matches == ()
    assert Decimal(release.threshold) == Decimal("0.6")


def test_top_k_keeps_the_best(tmp_path: Path) -> None:
    of = world()
    first, second = of.people[0], of.people[1]
    both = (first + 0.9 * second) / ((first + 0.9 * second) @ (first + 0.9 * second)) ** 0.5
    with desk(tmp_path, of, policy()) as office:
        release = office.submit(of.ask(both))
        assert [m.rank for m in release.matches] == [1, 2]
        assert (
            release.matches[0].templates[0].template_id == of.operator.entries[0].template_id.hex()
        )
        cut = office.submit(of.ask(both, wanted=Wanted(top_k=1)))
        assert [m.templates[0].template_id for m in cut.matches] == [
            release.matches[0].templates[0].template_id
        ]
        assert cut.values_charged == 2 * cut.searches_charged


@pytest.mark.parametrize(("decimals", "length"), [(0, 0), (1, 3), (2, 4), (3, 5)])
def test_scores_have_the_policys_decimals(tmp_path: Path, decimals: int, length: int) -> None:
    of = world()
    with desk(tmp_path, of, policy(decimals=decimals)) as office:
        (match,) = office.submit(of.ask(at_cosine(of.people[3], 0.75))).matches
    assert len(match.score) == length
    if length:
        assert abs(float(match.score) - 0.75) <= 0.5 * 10**-decimals + 1e-9 + 6 * 2**-10.2


def test_noise_is_in_every_score(tmp_path: Path) -> None:
    """The same probe asked often gives scores that spread as the policy's noise does."""
    of = world()
    guardian = of.opener()
    answer = of.ask(of.people[3])
    data = answer.sealed[Kind.RESULT, 0]
    ciphertext = parse_ciphertext(data, of.bundle.profile, Kind.RESULT)
    sigma = budget_rule(GUARDED, 2, strict=False, members=1).noise_std
    empty_slots = guardian.open(ciphertext, sigma)[FIRST_BLOCK:]
    assert empty_slots.std() == pytest.approx(sigma, rel=0.05)


def test_verify_speaks_of_its_targets_only(office: Desk) -> None:
    of = world()
    entry = of.operator.entries[5]
    targets = Targets(template_ids=(entry.template_id.hex(),))
    missed = office.submit(of.ask(of.people[3], targets=targets))
    assert missed.matches == ()
    assert missed.compared == 1
    (match,) = office.submit(of.ask(of.people[5], targets=targets)).matches
    assert match.templates[0].template_id == entry.template_id.hex()


def test_verify_by_subject(office: Desk) -> None:
    of = world()
    entry = of.operator.entries[FIRST_BLOCK]
    answer = of.ask(of.people[FIRST_BLOCK], targets=Targets(subject_ids=(entry.subject_id.hex(),)))
    assert [block.block for block in answer.result.blocks] == [1]
    (match,) = office.submit(answer).matches
    assert match.subject_id == entry.subject_id.hex()


def test_same_submission_gets_the_stored_answer(office: Desk) -> None:
    of = world()
    answer = of.ask(of.people[3])
    first = office.envelope(answer)
    assert office.envelope(answer) == first
    assert office.ledger.epoch_total(of.bundle.epoch) == 1


def test_stored_release_survives_a_restart(tmp_path: Path) -> None:
    of = world()
    answer = of.ask(of.people[3])
    with desk(tmp_path, of, policy()) as office:
        first = office.envelope(answer)
    with desk(tmp_path, of, policy()) as office:
        assert office.envelope(answer) == first
        stored = office.registrar.release(AGENCY, answer.request.request_id)
        assert stored.release == first


def test_release_is_for_its_own_client(office: Desk) -> None:
    of = world()
    answer = of.ask(of.people[3])
    office.submit(answer)
    with pytest.raises(NotFound):
        office.registrar.release(OTHER, answer.request.request_id)


def test_release_is_for_the_key_in_the_policy(office: Desk) -> None:
    """A certificate that names the client with a key that the policy has dropped gets nothing."""
    of = world()
    answer = of.ask(of.people[3])
    office.submit(answer)
    stale = replace(AGENCY, key=OTHER.key)
    with pytest.raises(PermissionRefused, match="another key"):
        office.registrar.release(stale, answer.request.request_id)


def test_submissions_at_once_are_answered_once(office: Desk) -> None:
    of = world()
    answer = of.ask(of.people[3])
    found: list[Release] = []
    threads = [
        threading.Thread(target=lambda: found.append(office.submit(answer, AGENCY)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({release.sha256() for release in found}) == 1
    assert len(found) == len(threads)
    assert office.ledger.epoch_total(of.bundle.epoch) == 1


def test_empty_gallery_has_no_match(tmp_path: Path) -> None:
    of = world()
    operator = replace(of.operator.copy(), units=[], entries=[], version=0)
    with desk(tmp_path, of, policy(), operator) as office:
        release = office.submit(of.ask(of.people[3], operator))
    assert release.matches == ()
    assert release.compared == 0


@pytest.mark.parametrize("profile", ["compact", "swift"])
def test_yes_no_profiles_release_no_score(tmp_path: Path, profile: str) -> None:
    of = world(profile)
    with desk(tmp_path, of, policy(profile)) as office:
        release = office.submit(of.ask(of.people[3]))
    (match,) = release.matches
    assert match.score == ""
    assert json.loads(match.templates[0].label) == {"name": "person-of-0-3"}


def test_strict_mode_does_not_order_by_score(tmp_path: Path) -> None:
    of = world("swift")
    low, high = sorted((0, 1), key=lambda index: of.operator.entries[index].template_id)
    mixed = of.people[high] + 0.9 * of.people[low]  # the best match has the larger id
    answer = of.ask(mixed / (mixed @ mixed) ** 0.5)
    with desk(tmp_path, of, policy("swift")) as office:
        ids = [match.templates[0].template_id for match in office.submit(answer).matches]
    assert len(ids) == 2
    assert ids == sorted(ids)
