"""The policy file and the rules over it: no keys, no clock, no network."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from math import log2
from pathlib import Path

import pytest

from tests.auditor_world import CLIENT, NOW, OTHER_CLIENT, SERVER, policy, policy_text
from underseal_auditor.keys.flooding import error_bound, leaked_bits
from underseal_auditor.policy.budget import LEAK_LIMIT, SCORE_DEVIATION, budget_rule
from underseal_auditor.policy.check_budget import most_openings
from underseal_auditor.policy.document import default_max_spread, load_policy, parse_policy
from underseal_auditor.policy.rules import RULES, Case, KeyFacts, Record, decide, rules_asked
from underseal_auditor.policy.starter import Starter, starter_policy
from underseal_core.credentials import Peer, Role
from underseal_core.errors import InvalidInput, Mismatch, PermissionRefused, Waiting
from underseal_core.scheme.profiles import COMPACT, GUARDED, PROFILES, SWIFT
from underseal_core.statements import Pin, SearchRequest, Wanted, utc_text

EPOCH = "ab" * 32
KEYS = KeyFacts(EPOCH, "guarded", 128)
SHARED = KeyFacts(EPOCH, "guarded", 128, members=3)
MOST = most_openings(GUARDED, SHARED.members) or 0
EXAMPLE = Path(__file__).parents[3] / "deploy" / "policy.toml"


def request(**changes: object) -> SearchRequest:
    fields: dict[str, object] = {
        "request_id": "0" * 32,
        "client": "agency",
        "gallery": "missing",
        "pin": Pin(model_id="test-model", model_dimension=128, profile="guarded", key_epoch=EPOCH),
        "probe_sha256": "1" * 64,
        "purpose": "missing-person",
        "case_reference": "case 7",
        "wanted": Wanted(top_k=10),
        "issued_at": utc_text(NOW),
        "expires_at": utc_text(NOW + timedelta(minutes=10)),
    }
    return SearchRequest.model_validate({**fields, **changes})


def case(
    now: datetime = NOW,
    templates: int = 100,
    record: Record | None = None,
    server: str = "server",
    approvers: tuple[str, ...] | None = None,
    keys: KeyFacts | None = None,
    **changes: object,
) -> Case:
    return Case(
        request(**changes), keys or KEYS, templates, record or Record(), now, server, approvers
    )


def pin(**changes: object) -> Pin:
    return request().pin.model_copy(update=changes)


def limited(limits: str) -> str:
    """The policy with limits of its own for the gallery that it searches."""
    return policy_text().replace("[galleries.missing]", f"[galleries.missing]\n{limits}")


# --- the file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("version = 1", "version = 2", "version"),
        ("top_k = 5", "topk = 5", "release.topk|release.top_k"),
        ("top_k = 5", 'top_k = "5"', "release.top_k"),
        ("top_k = 5", "top_k = 101", "release.top_k"),
        ("decimals = 2", "decimals = 4", "release.decimals"),
        ("budget = 1000", "budget = 100000000", "at most"),
        ("budget = 1000", "budget = 0", "release.budget"),
        ('profile = "guarded"', 'profile = "tiny"', "unknown profile"),
        ('profile = "guarded"', 'profile = "compact"', "no room for scores"),
        ('approvals = "none"', 'approvals = "three"', "approvals"),
        ('approvals = "none"', 'approvals = "one"', "more approvers than there are"),
        (
            "[servers.server]",
            f"[approvers.alice]\nkey = '{CLIENT.public_key.hex()}'\n[servers.server]",
            "same key",
        ),
        ("threshold = 0.6", "threshold = 0.05", "threshold"),
        ("threshold = 0.6", "threshold = 1", "threshold"),
        ("threshold = 0.6", "threshold = 0.60001", "threshold"),
        ("threshold = 0.6", "threshold = nan", "threshold"),
        ("threshold = 0.6", "", "threshold"),
        ('"missing-person", "border"', '"tourism"', "unknown purpose tourism"),
        (SERVER.public_key.hex(), CLIENT.public_key.hex(), "same key"),
        (SERVER.public_key.hex(), "00", "servers.server.key"),
        ("[servers.server]", "[servers.Server]", "servers"),
        ("[release]", "[release", "not TOML"),
        ("[purposes.border]", "[extra]\n[purposes.border]", "extra"),
        ("[purposes.border]", "[freeze]\nclients = ['burau']\n[purposes.border]", "client burau"),
        ("[purposes.border]", "[freeze]\nservers = ['x']\n[purposes.border]", "server x"),
        (
            "[purposes.border]",
            "[galleries.mising]\nenrollers = ['agency']\n[purposes.border]",
            "gallery mising",
        ),
        ("[galleries.wanted]", "[galleries.other]", "searches gallery wanted"),
        ('enrollers = ["agency", "bureau"]', 'enrollers = ["agency", "burau"]', "enroller burau"),
        ('enrollers = ["agency", "bureau"]', "enrollers = []", "galleries.wanted.enrollers"),
        ("[purposes.border]", "[quotas]\nsearches_per_day = 0\n[purposes.border]", "quotas"),
    ],
    ids=lambda value: "key" if len(value) == 64 else None,  # keys are new in every run
)
def test_policy_that_is_refused(old: str, new: str, text: str) -> None:
    source = policy_text()
    assert old in source
    with pytest.raises(InvalidInput, match=text):
        parse_policy(source.replace(old, new).encode())


def test_policy_says_whose_enrolments_count() -> None:
    document = policy().document
    both = {"agency": CLIENT.public_key, "bureau": OTHER_CLIENT.public_key}
    assert document.enrollers("wanted") == both
    assert document.enrollers("missing") == {"agency": CLIENT.public_key}
    assert document.enrollers("unheard") == {}


def test_client_that_only_enrols_states_no_purpose() -> None:
    source = policy_text().replace('purposes = ["border"]', "purposes = []")
    assert parse_policy(source.encode()).document.clients["bureau"].purposes == ()


def test_policy_is_named_by_its_bytes() -> None:
    source = policy_text().encode()
    assert parse_policy(source).sha256 != parse_policy(source + b"\n").sha256
    assert parse_policy(source).source == source


def test_policy_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        load_policy(tmp_path / "policy.toml")


def test_policy_that_is_too_long() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        parse_policy(b"#" * (1 << 21))


def test_thresholds_rise_with_the_gallery() -> None:
    larger = """
[[models.test-model.larger_galleries]]
templates = 1000
threshold = 0.65
[[models.test-model.larger_galleries]]
templates = 100000
threshold = 0.7
"""
    model = parse_policy((policy_text() + larger).encode()).document.models["test-model"]
    wanted = {1: "0.6", 999: "0.6", 1000: "0.65", 99_999: "0.65", 100_000: "0.7"}
    assert {n: str(model.threshold_for(n)) for n in wanted} == wanted
    with pytest.raises(InvalidInput, match="rise"):
        parse_policy((policy_text() + larger.replace("0.7", "0.5")).encode())
    with pytest.raises(InvalidInput, match="rise"):
        parse_policy((policy_text() + larger.replace("= 1000\n", "= 200000\n")).encode())


def test_spread_bound_follows_the_dimension_unless_stated() -> None:
    assert policy().max_spread("test-model", 128) == pytest.approx(0.1237, abs=1e-4)
    stated = parse_policy((policy_text() + "max_spread = 0.3\n").encode())
    assert stated.max_spread("test-model", 128) == 0.3
    assert default_max_spread(512) == 0.11


def test_strict_policy_does_not_cut_by_score() -> None:
    with pytest.raises(InvalidInput, match="strict"):
        policy("swift", top_k=7)


# --- what a profile allows -----------------------------------------------------------------


def test_guarded_budget_is_the_formula() -> None:
    rule = budget_rule(GUARDED, 2, strict=False, members=1)
    bound = 2**3.5 * SCORE_DEVIATION["guarded"]
    expected = 2 * (log2(rule.noise_std) - log2(bound)) - 40 - log2(12)
    assert log2(rule.max_values) == pytest.approx(expected, abs=1e-4)
    assert rule.max_values >= 1 << 16
    assert rule.numeric
    assert rule.band == 16 * rule.noise_std


def test_budget_shrinks_with_the_members_of_the_ceremony() -> None:
    """Their errors add up; a bit of a strict policy stays a bit."""
    one, five = (budget_rule(GUARDED, 2, strict=False, members=n) for n in (1, 5))
    assert five.max_values == pytest.approx(one.max_values / 5, abs=1)
    assert five.noise_std == one.noise_std
    assert budget_rule(COMPACT, 0, strict=True, members=5).max_values == 128


def test_more_decimals_mean_less_noise_and_fewer_values() -> None:
    two, three = (budget_rule(GUARDED, decimals, strict=False, members=1) for decimals in (2, 3))
    assert three.noise_std < two.noise_std
    assert three.max_values < two.max_values
    assert 6 * two.noise_std <= 0.0052
    assert 6 * three.noise_std <= 0.00105


def test_compact_budget_keeps_to_the_leak_limit() -> None:
    rule = budget_rule(COMPACT, 0, strict=False, members=1)
    bound = error_bound(SCORE_DEVIATION["compact"])
    assert not rule.numeric
    assert leaked_bits(rule.max_values, rule.noise_std, bound) <= LEAK_LIMIT
    assert leaked_bits(rule.max_values + 1, rule.noise_std, bound) > LEAK_LIMIT


def test_strict_mode_counts_bits() -> None:
    assert budget_rule(COMPACT, 0, strict=True, members=1).max_values == 128
    assert budget_rule(SWIFT, 0, strict=True, members=1).max_values == 16
    with pytest.raises(InvalidInput, match="yes or no"):
        budget_rule(GUARDED, 2, strict=True, members=1)
    with pytest.raises(InvalidInput, match="trials"):
        budget_rule(SWIFT, 0, strict=False, members=1)


@pytest.mark.parametrize("profile", ["compact", "swift"])
def test_numeric_scores_are_refused_without_room_for_noise(profile: str) -> None:
    with pytest.raises(InvalidInput, match="no room for scores|yes or no"):
        policy(profile, decimals=2)


# --- the rules -----------------------------------------------------------------------------


def test_allowed_request_gets_the_policys_terms() -> None:
    decision = decide(policy(), case())
    assert decision.terms is not None
    assert decision.refusal is None
    assert decision.terms.threshold == Decimal("0.6")
    assert decision.terms.top_k == 5
    assert rules_asked(decision) == tuple(name for name, _ in RULES)


def test_client_asks_for_less() -> None:
    decision = decide(policy(), case(wanted=Wanted(top_k=2, threshold="0.7")))
    assert decision.terms is not None
    assert (decision.terms.threshold, decision.terms.top_k) == (Decimal("0.7"), 2)


def test_client_asks_for_more() -> None:
    decision = decide(policy(), case(wanted=Wanted(top_k=1000, threshold="0.2")))
    assert decision.terms is not None
    assert (decision.terms.threshold, decision.terms.top_k) == (Decimal("0.6"), 5)


def test_gallery_may_only_be_stricter() -> None:
    strict = limited("threshold = 0.7\ntop_k = 2")
    terms = decide(parse_policy(strict.encode()), case()).terms
    assert terms is not None
    assert (terms.threshold, terms.top_k) == (Decimal("0.7"), 2)
    loose = limited("threshold = 0.2\ntop_k = 50")
    terms = decide(parse_policy(loose.encode()), case()).terms
    assert terms is not None
    assert (terms.threshold, terms.top_k) == (Decimal("0.6"), 5)


REFUSED = {
    "client-known": (case(client="stranger"), PermissionRefused),
    "client-frozen": (case(client="bureau"), PermissionRefused),
    "server-frozen": (case(), PermissionRefused),
    "purpose-known": (case(purpose="tourism"), PermissionRefused),
    "purpose-of-client": (case(client="bureau"), PermissionRefused),
    "gallery-of-purpose": (case(purpose="border"), PermissionRefused),
    "scope": (case(), PermissionRefused),
    "enrolled-probe": (case(probe_sha256="", probe_template="7" * 32), PermissionRefused),
    "key-epoch": (case(pin=pin(key_epoch="cd" * 32)), Mismatch),
    "profile": (case(pin=pin(profile="compact")), Mismatch),
    "dimension": (case(pin=pin(model_dimension=129)), Mismatch),
    "model-known": (case(pin=pin(model_id="other")), Mismatch),
    "issued": (case(now=NOW - timedelta(seconds=61)), InvalidInput),
    "lifetime": (case(expires_at=utc_text(NOW + timedelta(seconds=3601))), InvalidInput),
    "expiry": (case(now=NOW + timedelta(seconds=661)), InvalidInput),
    "warrant": (case(), PermissionRefused),
    "warrant-overdue": (case(record=Record(overdue=("7" * 32,))), PermissionRefused),
    "searches-per-day": (case(record=Record(searches=100)), PermissionRefused),
    "budget": (case(record=Record(epoch_total=1000)), PermissionRefused),
    "openings": (case(keys=SHARED, record=Record(openings=MOST)), PermissionRefused),
    "refusals": (case(record=Record(refusals=64)), PermissionRefused),
    "approvals": (case(approvers=("alice",)), Waiting),
}
BEFORE = parse_policy(
    policy_text().replace('["missing"]\n', '["missing"]\nwarrant = "before"\n').encode()
)
NAMED = parse_policy(
    policy_text().replace('["missing"]\n', '["missing"]\nscope = "named"\n').encode()
)
TWO = parse_policy(
    policy_text()
    .replace('approvals = "none"', 'approvals = "two"')
    .replace(
        "[servers.server]",
        "".join(f"[approvers.{n}]\nkey = '{n[0] * 64}'\n" for n in ("alice", "bob"))
        + "[servers.server]",
    )
    .encode()
)
FROZEN = parse_policy(
    f"{policy_text()}[freeze]\nclients = ['bureau']\nservers = ['server']\n".encode()
)


def test_every_rule_has_a_case() -> None:
    assert list(REFUSED) == [name for name, _ in RULES]


@pytest.mark.parametrize("rule", REFUSED)
def test_rule_refuses(rule: str) -> None:
    asked, error = REFUSED[rule]
    special = {"approvals": TWO, "warrant": BEFORE, "scope": NAMED}
    rules = FROZEN if rule.endswith("-frozen") else special.get(rule, policy())
    decision = decide(rules, asked)
    assert decision.rule == rule
    assert type(decision.refusal) is error
    assert decision.terms is None
    assert rules_asked(decision)[-1] == rule


@pytest.mark.parametrize(
    "asked",
    [
        case(now=NOW - timedelta(seconds=60)),
        case(now=NOW + timedelta(seconds=660)),
        case(expires_at=utc_text(NOW + timedelta(seconds=3600))),
        case(record=Record(searches=99, epoch_total=999, refusals=63)),
        case(server=""),
        case(keys=SHARED, record=Record(openings=MOST - 1)),
        case(record=Record(openings=10_000)),
        case(pin=pin(model_dimension=100)),
    ],
)
def test_rule_allows_up_to_its_limit(asked: Case) -> None:
    assert decide(policy(), asked).refusal is None


# --- a policy to start from ----------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_starter_policy_is_sound(profile: str) -> None:
    approvers = {"alice": bytes(range(32)), "bob": bytes(range(1, 33))}
    text = starter_policy(
        Starter(
            name='the "first" one',
            profile=PROFILES[profile],
            members=3,
            decimals=2 if profile == "guarded" else 0,
            purposes={"missing-person": "none", "detention": "two"},
            galleries=["missing"],
            models={"zoo-sface@1.0": Decimal("0.45")},
            participants=[
                Peer(Role.CLIENT, "agency.north", CLIENT.public_key),
                Peer(Role.SERVER, "server", SERVER.public_key),
                *(Peer(Role.APPROVER, name, key) for name, key in approvers.items()),
            ],
            enrolled_probes=profile == "guarded",
        )
    )
    parse_policy(text.encode()).check_members(3)
    found = parse_policy(text.encode()).document
    assert found.name == 'the "first" one'
    assert found.clients["agency.north"].key == CLIENT.public_key.hex()
    assert found.enrollers("missing") == {"agency.north": CLIENT.public_key}
    assert found.models["zoo-sface@1.0"].threshold == Decimal("0.45")
    assert {name: rule.approvals for name, rule in found.purposes.items()} == {
        "missing-person": "none",
        "detention": "two",
    }
    assert found.clients["agency.north"].purposes == ("missing-person", "detention")
    assert {n: bytes.fromhex(one.key) for n, one in found.approvers.items()} == approvers


def test_starter_policy_names_no_auditor() -> None:
    auditor = Peer(Role.AUDITOR, "auditor", CLIENT.public_key)
    starter = Starter("x", GUARDED, 1, 2, {"p": "none"}, ["g"], {"m": Decimal("0.5")}, [auditor])
    with pytest.raises(InvalidInput, match="role auditor"):
        starter_policy(starter)


def test_example_policy_is_sound() -> None:
    assert load_policy(EXAMPLE).document.release.decimals == 2
