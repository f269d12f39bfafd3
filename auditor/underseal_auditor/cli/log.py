"""``underseal-auditor log``: make the log; verify, prove, count and watch somebody's log."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.connection import RegistrarLog
from underseal_auditor.logbook import TILES_NAME, VKEY_NAME, create_logbook, load_vkey
from underseal_auditor.logs.audit import EntryAudit
from underseal_auditor.logs.mirror import LogMirror
from underseal_auditor.policy.check_budget import most_openings
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.errors import Busy, Damaged, InvalidInput
from underseal_core.outcome import ExitCode, show
from underseal_core.roster import load_rosters
from underseal_core.tlog.audit import LogReport, verify_log
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.layout import CHECKPOINT
from underseal_core.tlog.note import VerifierKey, encode_base64
from underseal_core.tlog.proof import Receipt, verify_receipt
from underseal_core.tlog.tiles import TileReader

app = typer.Typer(help="The transparency log.", no_args_is_help=True)

FolderArgument = Annotated[
    Path | None, typer.Argument(help="A log's folder or a mirror of it.", show_default=False)
]
KeyOption = Annotated[Path, typer.Option("--log-key", help="The log's key, log.vkey.")]
RegistrarOption = Annotated[str | None, typer.Option(help="HOST:PORT, instead of a folder.")]
CredentialsOption = Annotated[Path | None, typer.Option(help="For --registrar: own folder.")]
BundleOption = Annotated[
    list[Path] | None,
    typer.Option(help="Bundle whose members must have signed; one for each key epoch."),
]
KnownOption = Annotated[
    list[Path] | None,
    typer.Option(help="Checkpoint or receipt seen before that the log must still honour."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    out: Annotated[Path, typer.Option(help="Folder for the log and its key.")],
    origin: Annotated[
        str, typer.Option(help="Names the log for good, such as log.example.org/underseal.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make an empty log with a key of its own."""
    key = create_logbook(out, origin)
    facts = {"log": str(out), "vkey": key.vkey(), "vkey_file": str(out / VKEY_NAME)}
    lines = (
        f"log        {out}   keep log.key there secret\n"
        f"key        {key.vkey()}\n"
        f"key file   {out / VKEY_NAME}   give it to clients and to whoever watches the log"
    )
    show(facts, lines, as_json=as_json)


@app.command()
def verify(
    log_key: KeyOption,
    folder: FolderArgument = None,
    registrar: RegistrarOption = None,
    credentials: CredentialsOption = None,
    bundle: BundleOption = None,
    known: KnownOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Recompute the whole log from its entries and check what they say together."""
    key = load_vkey(log_key)
    with _log(folder, registrar, credentials, key) as tiles:
        report, audit = _audited(tiles, key, bundle, known)
    facts = {**_facts(report, audit), "findings": [asdict(f) for f in audit.findings]}
    head = report.signed.checkpoint
    lines = [f"log {head.origin}: {head.size} entries, root {encode_base64(head.root)}"]
    lines += [
        f"key epoch {name[:16]}: {epoch.total} of {epoch.budget} values made visible"
        for name, epoch in audit.epochs.items()
    ]
    lines += _caught(audit)
    lines += [f"entry {f.index}: {f.rule}: {f.text}" for f in audit.findings]
    lines.append("verified" if not audit.findings else "NOT VERIFIED")
    show(facts, "\n".join(lines), as_json=as_json)
    if audit.findings:
        raise Damaged(f"the log breaks {len(audit.findings)} rules, see above")


@app.command()
def stats(
    log_key: KeyOption,
    folder: FolderArgument = None,
    registrar: RegistrarOption = None,
    credentials: CredentialsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Count per client, purpose and month, from the entries of a verified log."""
    key = load_vkey(log_key)
    with _log(folder, registrar, credentials, key) as tiles:
        report, audit = _audited(tiles, key, None, None)
    rows = [{**asdict(row), "unanswered": row.unanswered} for row in audit.rows()]
    names = ["month", "client", "purpose", "intents", "released", "refused", "unanswered"]
    names += ["provisional", "revoked", "matches", "compared", "values_charged"]
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    show({**_facts(report, audit), "rows": rows}, "\n".join(lines), as_json=as_json)


@app.command()
def prove(
    index: Annotated[int, typer.Argument(help="Number of the entry, from 0.", min=0)],
    log_key: KeyOption,
    out: Annotated[Path, typer.Option(help="New folder for the receipt and the entry.")],
    folder: Annotated[Path | None, typer.Option(help="A log's folder or a mirror.")] = None,
    registrar: RegistrarOption = None,
    credentials: CredentialsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the offline receipt of an entry, and the entry."""
    key = load_vkey(log_key)
    with _log(folder, registrar, credentials, key) as tiles:
        reader = TileReader(tiles)
        raw = reader.checkpoint()
        size = open_checkpoint(raw, key).checkpoint.size
        receipt = Receipt(index, reader.prove_inclusion(index, size), raw)
        _, entry = next(reader.entries(size, index))
    verify_receipt(receipt, entry, key)
    try:
        out.mkdir(parents=True)
        (out / "entry.json").write_bytes(entry)
        (out / "entry.tlog-proof").write_bytes(receipt.to_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot write to {out}", hint="it must not exist yet") from error
    facts = {"index": index, "size": size, "entry": entry.decode("utf-8", "replace")}
    show(facts, f"entry {index} of {size}: receipt in {out}", as_json=as_json)


@app.command()
def check(
    receipt: Annotated[Path, typer.Argument(help="A .tlog-proof file.")],
    entry: Annotated[Path, typer.Argument(help="The entry it is for.")],
    log_key: KeyOption,
    witness: Annotated[
        list[Path] | None,
        typer.Option(help="Key file of a witness who must have cosigned; repeatable."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt offline."""
    found = Receipt.parse(_read(receipt))
    witnesses = [load_vkey(path) for path in witness or []]
    quorum = len({key.public_key for key in witnesses})
    signed = verify_receipt(found, _read(entry), load_vkey(log_key), witnesses, quorum=quorum)
    names = sorted(key.name for key in signed.witnessed)
    size, origin = signed.checkpoint.size, signed.checkpoint.origin
    facts = {"index": found.index, "size": size, "valid": True, "witnessed_by": names}
    told = f", witnessed by {', '.join(names)}" if names else ""
    show(facts, f"entry {found.index} of {size} in {origin}: valid{told}", as_json=as_json)


@app.command()
def watch(
    log_key: KeyOption,
    registrar: Annotated[str, typer.Option(help="HOST:PORT.")],
    credentials: Annotated[Path, typer.Option(help="Own credentials folder.")],
    state: Annotated[Path, typer.Option(help="Folder for the mirror and what was seen.")],
    bundle: BundleOption = None,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between looks.")] = 60.0,
    budget_alarm: Annotated[float, typer.Option(min=0, max=1, help="Share of a budget.")] = 0.8,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Follow a registrar's log; end with an alarm when it is rewritten or breaks its rules.

    With ``--once`` a budget beyond the alarm's share ends with exit code 5.
    """
    key = load_vkey(log_key)
    mirror = LogMirror(state, key)
    with closing(RegistrarLog(registrar, Credentials.load(credentials))) as source:
        while True:
            try:
                alarms = _look(mirror, source, key, bundle, budget_alarm, as_json=as_json)
            except Busy as error:
                if once:
                    raise
                sys.stderr.write(f"error: {error.public}\n")
            else:
                if once:
                    raise typer.Exit(ExitCode.REFUSED if alarms else ExitCode.OK)
            time.sleep(interval)


def _look(
    mirror: LogMirror,
    source: RegistrarLog,
    key: VerifierKey,
    bundle: list[Path] | None,
    budget_alarm: float,
    *,
    as_json: bool,
) -> list[str]:
    """Bring the mirror up to date and verify all of it; return the budget alarms."""
    mirror.update(source)
    report, audit = _audited(mirror.folder, key, bundle, None)
    alarms = [
        f"ALARM: key epoch {name[:16]} has used {epoch.total} of {epoch.budget} values"
        for name, epoch in audit.epochs.items()
        if epoch.used >= budget_alarm
    ]
    alarms += _caught(audit)
    size = report.signed.checkpoint.size
    lines = "\n".join([f"{size} entries, consistent", *alarms])
    show({**_facts(report, audit), "alarms": alarms}, lines, as_json=as_json)
    if audit.findings:
        first = audit.findings[0]
        raise Damaged(f"ALARM: entry {first.index} breaks rule {first.rule}: {first.text}")
    return alarms


@contextmanager
def _log(
    folder: Path | None, registrar: str | None, credentials: Path | None, key: VerifierKey
) -> Iterator[Path]:
    """Give the folder of tiles: a local one, or a mirror that is made for this once."""
    if (folder is None) == (registrar is None):
        raise InvalidInput("name either a folder or --registrar")
    if folder is not None:
        inner = folder / TILES_NAME
        yield inner if (inner / CHECKPOINT).exists() else folder
        return
    if registrar is None or credentials is None:
        raise InvalidInput("--registrar needs --credentials")
    with (
        tempfile.TemporaryDirectory() as name,
        closing(RegistrarLog(registrar, Credentials.load(credentials))) as source,
    ):
        LogMirror(Path(name), key).update(source)
        yield Path(name)


def _audited(
    tiles: Path, key: VerifierKey, bundles: list[Path] | None, known: list[Path] | None
) -> tuple[LogReport, EntryAudit]:
    loaded = [(path, load_bundle(path)) for path in bundles or []]
    rosters = [one for path, bundle in loaded for one in load_rosters(bundle, path, None)]
    limits = {b.epoch: most_openings(b.profile, len(b.members)) for _, b in loaded}
    openings = {epoch: most for epoch, most in limits.items() if most is not None}
    audit = EntryAudit(tuple(rosters) or None, openings)
    earlier = [_checkpoint_in(_read(path)) for path in known or []]
    return verify_log(tiles, key, earlier, visit=audit.visit), audit


def _checkpoint_in(raw: bytes) -> bytes:
    """Return a checkpoint, taken out of a receipt if it is one."""
    try:
        return Receipt.parse(raw).checkpoint
    except Damaged:
        return raw


def _caught(audit: EntryAudit) -> list[str]:
    return [
        f"ALARM: {alarm.at}: server {alarm.server} was caught by rule {alarm.rule}, request "
        f"{alarm.request_id}"
        for alarm in audit.alarms
    ]


def _facts(report: LogReport, audit: EntryAudit) -> dict[str, object]:
    head = report.signed.checkpoint
    return {
        "origin": head.origin,
        "size": head.size,
        "root": encode_base64(head.root),
        "policies": audit.policies,
        "servers_caught": [alarm.model_dump() for alarm in audit.alarms],
        "epochs": {name: asdict(epoch) for name, epoch in audit.epochs.items()},
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}") from error
