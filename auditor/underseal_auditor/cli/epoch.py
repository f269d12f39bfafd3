"""``underseal-auditor epoch``: move galleries from one key epoch to the next."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.api.member_process import Finished
from underseal_auditor.api.rotation_process import RotationPlace, RotationProcess
from underseal_auditor.cli.ceremony_members import note, parse_peers, read_file
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.keys.fingerprint import fingerprint
from underseal_auditor.keys.rotation_file import MAX_FILE_BYTES, RotationFile, RotationRound
from underseal_core.bundle import load_bundle
from underseal_core.errors import Conflict, InvalidInput, StorageFull
from underseal_core.outcome import show
from underseal_core.roster import load_rosters
from underseal_core.rpc import logging

app = typer.Typer(help="Move galleries from one key epoch to the next.", no_args_is_help=True)


@app.command()
def plan(
    old_bundle: Annotated[Path, typer.Option(help="Public bundle of the epoch that ends.")],
    new_bundle: Annotated[Path, typer.Option(help="Public bundle of the new ceremony.")],
    active: Annotated[str, typer.Option(help="Points of the k old members, such as 1,3.")],
    out: Annotated[Path, typer.Option(help="The rotation file.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the rotation file that k old and all new members must agree on."""
    old, new = load_bundle(old_bundle), load_bundle(new_bundle)
    holders = load_rosters(old, old_bundle, None)[-1]
    file = RotationFile.plan(old, holders, _points(active), new)
    if out.exists():
        raise Conflict(f"{out} exists already", hint="choose another name")
    try:
        out.write_bytes(file.to_bytes())
    except OSError as error:
        raise StorageFull(f"cannot write {out}") from error
    words = fingerprint(file.digest.hex())
    facts = {
        "file": str(out),
        "fingerprint": words,
        "participants": [key.hex() for key in file.signing_keys],
    }
    lines = [f"rotation file  {out}", f"fingerprint    {words}"]
    for number, key in enumerate(file.signing_keys, start=1):
        parts = (("old", file.old_point(number)), ("new", file.new_point(number)))
        text = ", ".join(f"{side} member {point}" for side, point in parts if point)
        lines.append(f"participant {number}  {key.hex()[:16]}  {text}")
    show(facts, "\n".join(lines), as_json=as_json)


@app.command()
def rotate(
    file: Annotated[Path, typer.Option(help="The rotation file.")],
    credentials: Annotated[Path, typer.Option(help="The auditor's credentials folder.")],
    old_bundle: Annotated[Path, typer.Option(help="Public bundle of the epoch that ends.")],
    new_bundle: Annotated[Path, typer.Option(help="Public bundle of the new ceremony.")],
    state: Annotated[Path, typer.Option(help="Folder for this participant's journal.")],
    out: Annotated[Path, typer.Option(help="The switching key.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT where the others reach this one.")
    ] = "127.0.0.1:0",
    peer: Annotated[
        list[str] | None, typer.Option(help="NUMBER=HOST:PORT of every other participant.")
    ] = None,
    old_share: Annotated[
        Path | None, typer.Option(help="Sealed share of the old epoch, of a member in --active.")
    ] = None,
    new_share: Annotated[
        Path | None, typer.Option(help="Sealed share of the new epoch, of a new member.")
    ] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Opens the shares.")] = None,
    new_passphrase_file: Annotated[
        Path | None, typer.Option(help="Opens the new share, where its passphrase is another.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the switching key together. Run it again after an interruption."""
    logging.configure("WARNING")
    rotation = RotationFile.parse(read_file(file, MAX_FILE_BYTES))
    place = RotationPlace(
        credentials=credentials,
        old_bundle=old_bundle,
        new_bundle=new_bundle,
        old_share=old_share,
        new_share=new_share,
        state=state,
        out=out,
        listen=listen,
        peers=parse_peers(peer or []),
    )
    passphrase = read_passphrase(passphrase_file)
    another = new_passphrase_file and read_passphrase(new_passphrase_file)
    process = RotationProcess(rotation, place, passphrase, another or passphrase)
    note(f"rotation {fingerprint(rotation.digest.hex())}: compare with the others")
    note(f"to epoch {fingerprint(rotation.new_epoch)}: is it the ceremony that you took part in?")
    done = asyncio.run(
        process.run(
            lambda address: note(f"listening on {address}"),
            lambda round_: note(
                f"round {int(round_)} of {len(RotationRound)}: {round_.name.lower()}"
            ),
        )
    )
    facts = {
        "switching_key": done.name,
        "fingerprint": fingerprint(done.name),
        "file": str(out),
        "unreached": sorted(done.unreached),
    }
    show(facts, _lines(out, done), as_json=as_json)


def _lines(out: Path, done: Finished) -> str:
    lines = (
        f"switching key  {out}   give it to servers, clients and guardians\n"
        f"id             {done.name}\n"
        f"fingerprint    {fingerprint(done.name)}   compare with the others"
    )
    if done.unreached:
        members = ", ".join(str(point) for point in sorted(done.unreached))
        lines += f"\n{members} are out of reach: run this again if they still need messages"
    return lines


def _points(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not a list of points", hint="such as --active 1,3"
        ) from None
