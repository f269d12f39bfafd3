"""The decision on a request, before anything is opened. Pure: clock and totals are passed in.

The rules, in the order in which they are asked; the first that refuses decides:

    client-known         the policy names the client
    client-frozen        the auditors have not frozen it
    server-frozen        nor the server that answered
    purpose-known        the policy names the purpose
    purpose-of-client    the client may state it
    gallery-of-purpose   the purpose may search this gallery
    scope                it may compare with everybody there, or with whom the request names
    enrolled-probe       it may search with an enrolled template, if the request does
    key-epoch            the request is for the keys that this auditor holds
    profile              and for their profile
    dimension            and for their dimension
    model-known          the policy has a threshold for the model
    issued               the request is not from the future
    lifetime             it is valid for no longer than MAX_LIFETIME
    expiry               it has not expired
    warrant              it names a warrant, if the purpose asks for one before
    warrant-overdue      no release of this client and purpose waits for a warrant too long
    searches-per-day     the client has asked less than it may in 24 hours
    budget               the key epoch has values left
    openings             and so have the checks of probes, where the key is shared
    refusals             the client was not refused too often after opening, in this key epoch
    approvals            enough persons have approved it

All refusals here are in clear text: they follow from the policy, which every participant may
read, from the request itself, and from how often its client asked. What follows from *opened*
scores is refused uniformly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from underseal_auditor.policy.check_budget import most_openings
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.sections import MAX_TOP_K, PurposeSection, QuotaSection
from underseal_core.bundle import PublicBundle
from underseal_core.errors import InvalidInput, Mismatch, PermissionRefused, UndersealError, Waiting
from underseal_core.scheme.profiles import padded_dimension
from underseal_core.statements import Fusion, SearchRequest, utc_moment, utc_text

ALLOWED: Final = "allowed"
CLOCK_SKEW: Final = timedelta(seconds=60)
MAX_LIFETIME: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The keys in force: hex epoch id, profile name, padded dimension, members of the ceremony."""

    epoch: str
    profile: str
    dimension: int
    members: int = 1


def key_facts(bundle: PublicBundle) -> KeyFacts:
    """Return the facts of a bundle's keys."""
    return KeyFacts(bundle.epoch, bundle.profile.name, bundle.dimension, len(bundle.members))


def guardian_part(bundle: PublicBundle) -> Fraction:
    """Return how much of each total of a key epoch one guardian lets pass: k of n.

    A guardian counts what it takes part in. Each opening takes k guardians, so where each of n
    lets no more than ``total * k / n`` pass, all together let no more than ``total``, whichever
    groups a registrar asks. One at least: as two groups share a guardian, one it is then in all.
    """
    return Fraction(bundle.threshold, len(bundle.members))


def part_of(total: int, part: Fraction) -> int:
    """Return how much of a key epoch's ``total`` may pass by whoever has this part of it."""
    return max(1, int(total * part))


@dataclass(frozen=True, slots=True)
class Record:
    """What a ledger remembers that matters to a request.

    With these keys, so far: ``epoch_total`` values were made visible, ``refusals`` of the client
    were refused after opening. ``searches``: what the client's other requests of the last 24 hours
    count. ``openings``: searches that were begun to be opened with these keys. ``overdue``: ids
    of the client's requests of this purpose whose warrant is overdue.
    """

    epoch_total: int = 0
    refusals: int = 0
    searches: int = 0
    overdue: tuple[str, ...] = ()
    openings: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules look at.

    ``templates`` is the number of live templates of the gallery, ``server`` who answered (empty
    when nobody has yet), ``approvers`` who approved (None: they are asked later). ``part``: how
    much of a key epoch's totals may pass by whoever decides, see :func:`guardian_part`.
    """

    request: SearchRequest
    keys: KeyFacts
    templates: int
    record: Record
    now: datetime
    server: str = ""
    approvers: tuple[str, ...] | None = None
    part: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an allowed request may learn.

    ``max_spread`` bounds the standard deviation of the scores below ``threshold``; ``noise_std`` is
    that of the flooding noise, in units of the score, and ``band`` the distance from the threshold
    beyond which the noise changes no answer.
    """

    threshold: Decimal
    fusion: Fusion
    top_k: int
    decimals: int
    max_positives: int
    max_near: int
    max_spread: float
    noise_std: float
    band: float
    strict: bool
    quotas: QuotaSection
    approvals: int
    warrant_hours: int

    def warrant_deadline(self, released: datetime) -> str:
        """Return until when a warrant must be filed, as statements write times; empty if never."""
        return (
            utc_text(released + timedelta(hours=self.warrant_hours)) if self.warrant_hours else ""
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The rule that decided; ``terms`` when allowed, otherwise the ``refusal`` to raise."""

    rule: str
    terms: Terms | None
    refusal: UndersealError | None


Check = Callable[[Policy, Case], UndersealError | None]


def decide(policy: Policy, case: Case) -> Decision:
    """Ask all rules in order and return the decision."""
    for name, check in RULES:
        refusal = check(policy, case)
        if refusal is not None:
            return Decision(name, None, refusal)
    return Decision(ALLOWED, _terms(policy, case), None)


def rules_asked(decision: Decision) -> tuple[str, ...]:
    """Return the names of the rules up to the one that decided."""
    names = tuple(name for name, _ in RULES)
    return names if decision.terms else names[: names.index(decision.rule) + 1]


def _terms(policy: Policy, case: Case) -> Terms:
    release = policy.document.release
    pin, wanted = case.request.pin, case.request.wanted
    purpose = policy.document.purposes[case.request.purpose]
    later = purpose.warrant == "within"
    gallery = policy.document.galleries[case.request.gallery]
    own = policy.document.models[pin.model_id].threshold_for(case.templates)
    zero = Decimal(0)
    return Terms(
        threshold=max(own, gallery.threshold or zero, Decimal(wanted.threshold or zero)),
        fusion=gallery.fusion,
        top_k=min(release.top_k, wanted.top_k, gallery.top_k or MAX_TOP_K),
        decimals=release.decimals,
        max_positives=release.max_positives,
        max_near=release.max_near,
        max_spread=policy.max_spread(pin.model_id, pin.model_dimension),
        noise_std=policy.limits.noise_std,
        band=policy.limits.band,
        strict=policy.limits.strict,
        quotas=policy.document.quotas,
        approvals=purpose.approvals_needed,
        warrant_hours=0 if case.request.warrant or not later else purpose.warrant_hours,
    )


def _client_known(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.client in policy.document.clients:
        return None
    return PermissionRefused("the policy does not name this client", hint="ask the auditors")


def _client_frozen(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.client not in policy.document.freeze.clients:
        return None
    return PermissionRefused("the auditors have frozen this client", hint="ask the auditors")


def _server_frozen(policy: Policy, case: Case) -> UndersealError | None:
    if case.server not in policy.document.freeze.servers:
        return None
    return PermissionRefused("the auditors have frozen this server", hint="ask the auditors")


def _purpose_known(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.purpose in policy.document.purposes:
        return None
    return PermissionRefused(
        f"the policy has no purpose {case.request.purpose!r}",
        hint="ask the auditors what it allows",
    )


def _purpose_of_client(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.purpose in policy.document.clients[case.request.client].purposes:
        return None
    return PermissionRefused(f"this client may not search for {case.request.purpose!r}")


def _gallery_of_purpose(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.gallery in policy.document.purposes[case.request.purpose].galleries:
        return None
    return PermissionRefused(
        f"purpose {case.request.purpose!r} does not cover this gallery",
        hint="ask the auditors what it allows",
    )


def _scope(policy: Policy, case: Case) -> UndersealError | None:
    purpose, scope = case.request.purpose, "named" if case.request.targets else "everybody"
    if policy.document.purposes[purpose].scope in ("any", scope):
        return None
    if scope == "everybody":
        return PermissionRefused(
            f"purpose {purpose!r} compares only with whom a request names",
            hint="name them: underseal search --subject NAME, or --subjects FILE",
        )
    return PermissionRefused(
        f"purpose {purpose!r} compares with the whole gallery only", hint="search it: name nobody"
    )


def _enrolled_probe(policy: Policy, case: Case) -> UndersealError | None:
    purpose = case.request.purpose
    if not case.request.probe_template or policy.document.purposes[purpose].enrolled_probes:
        return None
    return PermissionRefused(
        f"purpose {purpose!r} does not search with enrolled templates",
        hint="search with a photo, or ask the auditors",
    )


def _key_epoch(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.pin.key_epoch == case.keys.epoch:
        return None
    return Mismatch(
        "the request is for another key epoch", hint="fetch the current bundle and search again"
    )


def _profile(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.pin.profile == case.keys.profile == policy.profile.name:
        return None
    return Mismatch(f"the keys are of profile {case.keys.profile}")


def _dimension(policy: Policy, case: Case) -> UndersealError | None:
    if padded_dimension(case.request.pin.model_dimension) == case.keys.dimension:
        return None
    return Mismatch(f"the keys are for dimension {case.keys.dimension}")


def _model_known(policy: Policy, case: Case) -> UndersealError | None:
    if case.request.pin.model_id in policy.document.models:
        return None
    return Mismatch(
        "the policy has no threshold for this model", hint="ask the auditors what it allows"
    )


def _issued(policy: Policy, case: Case) -> UndersealError | None:
    if utc_moment(case.request.issued_at) <= case.now + CLOCK_SKEW:
        return None
    return InvalidInput("the request is from the future", hint="check the clock")


def _lifetime(policy: Policy, case: Case) -> UndersealError | None:
    span = utc_moment(case.request.expires_at) - utc_moment(case.request.issued_at)
    if timedelta(0) < span <= MAX_LIFETIME:
        return None
    return InvalidInput("the request must be valid for at most one hour")


def _expiry(policy: Policy, case: Case) -> UndersealError | None:
    if case.now <= deadline(policy.document.purposes[case.request.purpose], case.request):
        return None
    return InvalidInput("the request has expired", hint="search again")


def deadline(purpose: PurposeSection, request: SearchRequest) -> datetime:
    """Return until when a request may be opened; persons get more time than programs."""
    last = utc_moment(request.expires_at)
    if purpose.approvals_needed:
        last = max(last, utc_moment(request.issued_at) + timedelta(hours=purpose.approval_hours))
    return last + CLOCK_SKEW


def _approvals(policy: Policy, case: Case) -> UndersealError | None:
    needed = policy.document.purposes[case.request.purpose].approvals_needed
    if case.approvers is None or len(case.approvers) >= needed:
        return None
    left = needed - len(case.approvers)
    return Waiting(
        f"the request waits for the approval of {left} {'person' if left == 1 else 'persons'}",
        hint=f"ask again later: underseal release show {case.request.request_id}",
    )


def _warrant(policy: Policy, case: Case) -> UndersealError | None:
    purpose = policy.document.purposes[case.request.purpose]
    if purpose.warrant != "before" or case.request.warrant:
        return None
    return PermissionRefused(
        f"purpose {case.request.purpose!r} needs a warrant",
        hint="name it: underseal search --warrant REFERENCE",
    )


def _warrant_overdue(policy: Policy, case: Case) -> UndersealError | None:
    left = sorted(set(case.record.overdue) - set(policy.document.lifted))
    if not left:
        return None
    return PermissionRefused(
        f"the warrant for request {left[0]} is overdue, and this purpose suspended",
        hint=f"file it: underseal warrant {left[0]} REFERENCE",
    )


def _searches_per_day(policy: Policy, case: Case) -> UndersealError | None:
    if case.record.searches < policy.document.quotas.searches_per_day:
        return None
    return PermissionRefused(
        "this client has used up its searches of the last 24 hours", hint="try again later"
    )


def _budget(policy: Policy, case: Case) -> UndersealError | None:
    if case.record.epoch_total < part_of(policy.document.release.budget, case.part):
        return None
    return PermissionRefused(
        "the release budget of this key epoch is used up",
        hint="the auditors must hold a new key ceremony",
    )


def _openings(policy: Policy, case: Case) -> UndersealError | None:
    most = most_openings(policy.profile, case.keys.members)
    if most is None or case.record.openings < part_of(most, case.part):
        return None
    return PermissionRefused(
        "this key epoch has opened as many searches as it may",
        hint="the auditors must move to a new key epoch",
    )


def _refusals(policy: Policy, case: Case) -> UndersealError | None:
    if case.record.refusals < policy.document.release.max_refusals:
        return None
    return PermissionRefused(
        "too many requests of this client were refused", hint="ask the auditors"
    )


RULES: Final[tuple[tuple[str, Check], ...]] = (
    ("client-known", _client_known),
    ("client-frozen", _client_frozen),
    ("server-frozen", _server_frozen),
    ("purpose-known", _purpose_known),
    ("purpose-of-client", _purpose_of_client),
    ("gallery-of-purpose", _gallery_of_purpose),
    ("scope", _scope),
    ("enrolled-probe", _enrolled_probe),
    ("key-epoch", _key_epoch),
    ("profile", _profile),
    ("dimension", _dimension),
    ("model-known", _model_known),
    ("issued", _issued),
    ("lifetime", _lifetime),
    ("expiry", _expiry),
    ("warrant", _warrant),
    ("warrant-overdue", _warrant_overdue),
    ("searches-per-day", _searches_per_day),
    ("budget", _budget),
    ("openings", _openings),
    ("refusals", _refusals),
    ("approvals", _approvals),
)
