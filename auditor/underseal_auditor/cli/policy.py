"""``underseal-auditor policy``: check, explain, sign, new."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from underseal_auditor.cli.own_data import own_database
from underseal_auditor.policy.document import Policy, load_policy, parse_policy
from underseal_auditor.policy.rules import (
    Case,
    Decision,
    KeyFacts,
    Record,
    decide,
    key_facts,
    rules_asked,
)
from underseal_auditor.policy.signed import (
    approval_of,
    approving,
    countersign,
    load_signatures,
    save_signatures,
    signatures_path,
)
from underseal_auditor.policy.starter import Starter, starter_policy
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.submission import Submission
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.outcome import exit_code, show
from underseal_core.roster import load_rosters
from underseal_core.rpc.tls import peer_of_certificate
from underseal_core.scheme.profiles import padded_dimension
from underseal_core.statements import SearchRequest, utc_moment

app = typer.Typer(help="The policy file.", no_args_is_help=True)

BundleOption = Annotated[Path | None, typer.Option(help="Check against these keys, too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(file: Path, bundle: BundleOption = None, *, as_json: JsonOption = False) -> None:
    """Tell whether a policy file is sound, and what it amounts to."""
    policy = load_policy(file)
    signatures = None if bundle is None else _signatures(file, policy, bundle)
    members = 1 if bundle is None else len(load_bundle(bundle).members)
    release = policy.document.release
    facts: dict[str, object] = {
        "policy_sha256": policy.sha256,
        "name": policy.document.name,
        "serial": policy.document.serial,
        **({} if signatures is None else {"signatures": signatures}),
        "profile": policy.profile.name,
        "clients": sorted(policy.document.clients),
        "servers": sorted(policy.document.servers),
        "purposes": sorted(policy.document.purposes),
        "models": {m: str(s.threshold) for m, s in sorted(policy.document.models.items())},
        "decimals": release.decimals,
        "budget": release.budget,
        "budget_limit": policy.limits_for(members).max_values,
        "noise_std": policy.limits.noise_std,
        "band": policy.limits.band,
    }
    lines = "\n".join(f"{name:14} {_plain(value)}" for name, value in facts.items())
    show(facts, lines, as_json=as_json)


@app.command()
def explain(
    request: Annotated[Path, typer.Argument(help="Statement search-request, as JSON.")],
    policy: Annotated[Path, typer.Option(help="Policy file.")],
    bundle: BundleOption = None,
    templates: Annotated[int, typer.Option(help="Live templates in the gallery.")] = 1,
    epoch_total: Annotated[int, typer.Option(help="Values made visible so far.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(help="A stopped registrar's or guardian's folder: what it counts."),
    ] = None,
    server: Annotated[str, typer.Option(help="Name of the server that answered.")] = "",
    approver: Annotated[list[str] | None, typer.Option(help="Who approved, repeatable.")] = None,
    at: Annotated[str, typer.Option(help="UTC time, 2026-01-31T12:00:00Z; now if empty.")] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Tell what the policy decides about a request, and which rule decides.

    Signatures are not looked at. What was asked before counts with ``--data`` only. The exit code
    is 0 if the request is allowed.
    """
    statement = _request(request)
    facts_of_keys = _keys(statement, bundle)
    moment = _moment(at)
    record = (
        Record(epoch_total) if data is None else _record(data, statement, facts_of_keys, moment)
    )
    approvers = tuple(sorted(set(approver or [])))
    case = Case(statement, facts_of_keys, templates, record, moment, server, approvers)
    decision = decide(load_policy(policy), case)
    show(_facts(decision), _lines(decision), as_json=as_json)
    if decision.refusal is not None:
        raise typer.Exit(exit_code(decision.refusal))


@app.command()
def sign(
    file: Path,
    bundle: Annotated[Path, typer.Option(help="The keys that the policy is for.")],
    credentials: Annotated[Path, typer.Option(help="Of a member of their ceremony.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Sign a policy file, into the file of signatures beside it. It takes k members."""
    policy, public = load_policy(file), load_bundle(bundle)
    _check_profile(policy, public)
    roster = load_rosters(public, bundle, None)[-1]
    identity = Credentials.load(credentials).identity
    envelope = countersign(policy, roster, identity, load_signatures(file))
    save_signatures(file, envelope)
    have, needed = len(envelope.signatures), roster.threshold
    facts = {
        "policy_sha256": policy.sha256,
        "name": policy.document.name,
        "serial": policy.document.serial,
        "key_epoch": roster.epoch,
        "signatures": have,
        "needed": needed,
    }
    left = f", {needed - have} more needed" if have < needed else ""
    lines = (
        f"policy     {policy.document.name}, serial {policy.document.serial}\n"
        f"sha256     {policy.sha256}\n"
        f"signatures {have} of {needed}{left}, in {signatures_path(file).name}"
    )
    show(facts, lines, as_json=as_json)


@app.command()
def new(
    bundle: Annotated[Path, typer.Option(help="The keys that the policy is for.")],
    certificate: Annotated[
        list[Path], typer.Option(help="tls.crt of a client, server or approver.")
    ],
    purpose: Annotated[
        list[str],
        typer.Option(help="NAME, or NAME=one or NAME=two persons who must approve; repeatable."),
    ],
    gallery: Annotated[list[str], typer.Option(help="Gallery of every purpose, repeatable.")],
    model: Annotated[list[str], typer.Option(help="MODEL=THRESHOLD, repeatable.")],
    name: Annotated[str, typer.Option(help="Of the policy.")] = "first policy",
    decimals: Annotated[int | None, typer.Option(help="0 releases yes or no.")] = None,
    enrolled_probes: Annotated[
        bool, typer.Option("--enrolled-probes", help="Let searches name an enrolled template.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; stdout if left out.")] = None,
) -> None:
    """Write a policy file to start from."""
    keys = load_bundle(bundle)
    profile, members = keys.profile, len(keys.members)
    chosen = decimals if decimals is not None else (2 if profile.name == "guarded" else 0)
    participants = [peer_of_certificate(_read(path)) for path in certificate]
    models = dict(_threshold(text) for text in model)
    purposes = dict(_purpose(text) for text in purpose)
    starter = Starter(
        name, profile, members, chosen, purposes, gallery, models, participants, enrolled_probes
    )
    text = starter_policy(starter)
    parse_policy(text.encode())
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with out.open("x") as file:
            file.write(text)
    except OSError as error:
        raise InvalidInput(f"cannot write {out}", hint="it must not exist yet") from error


def _signatures(file: Path, policy: Policy, path: Path) -> str:
    """Return how many members signed, of how many that it takes."""
    bundle = load_bundle(path)
    _check_profile(policy, bundle)
    policy.check_members(len(bundle.members))
    roster, envelope = load_rosters(bundle, path, None)[-1], load_signatures(file)
    payload = approval_of(policy, roster).payload()
    same = envelope is not None and envelope.payload == payload
    signers = approving(roster, payload, envelope.signatures if envelope and same else ())
    return f"{len(signers)} of {roster.threshold}"


def _check_profile(policy: Policy, bundle: PublicBundle) -> None:
    if bundle.profile != policy.profile:
        raise Mismatch(f"the policy is for profile {policy.profile.name}, the keys are not")


def _request(path: Path) -> SearchRequest:
    try:
        return SearchRequest.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f"{place}: " if place else ""
        raise InvalidInput(f"{path} is no search request: {where}{first['msg']}") from None


def _keys(request: SearchRequest, bundle: Path | None) -> KeyFacts:
    """Return the bundle's facts, or those that the request itself states."""
    if bundle is None:
        pin = request.pin
        return KeyFacts(pin.key_epoch, pin.profile, padded_dimension(pin.model_dimension))
    public = load_bundle(bundle)
    return key_facts(public)


def _record(data: Path, request: SearchRequest, keys: KeyFacts, now: datetime) -> Record:
    submission = Submission(
        client=request.client,
        request_id=request.request_id,
        request_sha256=request.sha256(),
        result_sha256="",
        key_epoch=keys.epoch,
        purpose=request.purpose,
    )
    with own_database(data) as database:
        return Ledger(database).record(submission, now)


def _moment(text: str) -> datetime:
    try:
        return utc_moment(text) if text else datetime.now(UTC)
    except ValueError:
        raise InvalidInput(f"{text} is not a time such as 2026-01-31T12:00:00Z") from None


def _facts(decision: Decision) -> dict[str, object]:
    facts: dict[str, object] = {
        "allowed": decision.terms is not None,
        "rule": decision.rule,
        "asked": list(rules_asked(decision)),
    }
    if decision.refusal is not None:
        facts |= {"reason": decision.refusal.public, "hint": decision.refusal.hint}
    if decision.terms is not None:
        facts |= {
            "threshold": str(decision.terms.threshold),
            "top_k": decision.terms.top_k,
            "decimals": decision.terms.decimals,
            "max_positives": decision.terms.max_positives,
            "warrant_hours": decision.terms.warrant_hours,
            "noise_std": decision.terms.noise_std,
        }
    return facts


def _lines(decision: Decision) -> str:
    facts = _facts(decision)
    asked = rules_asked(decision)
    passed = asked if decision.terms else asked[:-1]
    lines = [f"passed   {name}" for name in passed]
    if decision.refusal is not None:
        lines.append(f"REFUSED  {decision.rule}: {decision.refusal.public}")
    else:
        terms = ", ".join(f"{k} {facts[k]}" for k in ("threshold", "top_k", "decimals"))
        lines.append(f"ALLOWED  {terms}")
    return "\n".join(lines)


def _purpose(text: str) -> tuple[str, str]:
    name, _, approvals = text.partition("=")
    return name, approvals or "none"


def _threshold(text: str) -> tuple[str, Decimal]:
    model, _, number = text.rpartition("=")
    try:
        return model, Decimal(number)
    except InvalidOperation:
        raise InvalidInput(f"{text} is not MODEL=THRESHOLD") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}") from error


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)
