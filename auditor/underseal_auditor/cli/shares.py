"""``underseal-auditor shares``: deal the shares of a key anew, to the same members or to others."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from underseal_auditor.api.ceremony_process import BUNDLE_NAME, MemberPlace
from underseal_auditor.api.resharing_process import ResharingProcess
from underseal_auditor.cli import ceremony_members
from underseal_auditor.cli.ceremony_members import note, parse_peers, read_file
from underseal_auditor.cli.passphrase import read_passphrase
from underseal_auditor.keys.ceremony_file import MAX_FILE_BYTES
from underseal_auditor.keys.fingerprint import fingerprint
from underseal_auditor.keys.member_keys import MAX_CARD_BYTES, MemberCard
from underseal_auditor.keys.resharing_file import ResharingFile, ResharingRound
from underseal_auditor.store.share_folder import ShareFolder
from underseal_core.bundle import load_bundle
from underseal_core.errors import Conflict, InvalidInput, StorageFull
from underseal_core.outcome import show
from underseal_core.roster import FILE_NAME, load_rosters
from underseal_core.rpc import logging

app = typer.Typer(
    help="Deal the shares of a key anew, to the same members or to others.", no_args_is_help=True
)

FileOption = Annotated[Path, typer.Option(help="The file that `shares plan` wrote.")]
CredentialsOption = Annotated[Path, typer.Option(help="The auditor's credentials folder.")]
StateOption = Annotated[Path, typer.Option(help="The folder of `shares prepare`.")]
KeysOption = Annotated[Path, typer.Option(help="Folder of bundle, successions and share.")]
ListenOption = Annotated[str, typer.Option(help="HOST:PORT where the others reach this one.")]
PeerOption = Annotated[list[str], typer.Option(help="POINT=HOST:PORT of every other member.")]
PassphraseOption = Annotated[Path | None, typer.Option(help="Opens and seals secrets.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def prepare(
    credentials: CredentialsOption,
    state: Annotated[Path, typer.Option(help="Folder for this member's part, a new one.")],
    *,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make this member's keys for one re-sharing, and the card that goes into its plan."""
    ceremony_members.prepare(credentials, state, passphrase_file=passphrase_file, as_json=as_json)


@app.command()
def plan(
    card: Annotated[list[Path], typer.Argument(help="All members' cards, in order of the points.")],
    keys: Annotated[Path, typer.Option(help="Folder with today's bundle and successions.")],
    out: Annotated[Path, typer.Option(help="The file that all members must agree on.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Write down who holds the shares from now on; members who stay keep their points."""
    cards = [MemberCard.parse(read_file(path, MAX_CARD_BYTES)) for path in card]
    bundle = load_bundle(keys / BUNDLE_NAME)
    roster = load_rosters(bundle, keys / BUNDLE_NAME, None)[-1]
    file = ResharingFile.plan(bundle, roster, tuple(one.keys for one in cards))
    if out.exists():
        raise Conflict(f"{out} exists already", hint="choose another name")
    try:
        out.write_bytes(file.to_bytes())
    except OSError as error:
        raise StorageFull(f"cannot write {out}") from error
    words = fingerprint(file.digest.hex())
    replaced = file.replaced(roster)
    facts = {
        "resharing": file.digest.hex(),
        "fingerprint": words,
        "file": str(out),
        "generation": file.generation,
        "dealers": list(file.dealers),
        "replaced": list(replaced),
    }
    lines = (
        f"re-sharing     {out}   generation {file.generation}\n"
        f"replaced       {_points(replaced)}\n"
        f"fingerprint    {words}"
    )
    show(facts, lines, as_json=as_json)


@app.command()
def refresh(
    file: FileOption,
    credentials: CredentialsOption,
    state: StateOption,
    keys: KeysOption,
    listen: ListenOption,
    peer: PeerOption,
    *,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give all members new shares. Run it again after an interruption."""
    place = MemberPlace(credentials, state, keys, listen, parse_peers(peer))
    _take_part(file, place, passphrase_file, replace=False, as_json=as_json)


@app.command()
def replace(
    file: FileOption,
    credentials: CredentialsOption,
    state: StateOption,
    keys: KeysOption,
    listen: ListenOption,
    peer: PeerOption,
    *,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a member's place to a new one, and everybody new shares. Run it again likewise."""
    place = MemberPlace(credentials, state, keys, listen, parse_peers(peer))
    _take_part(file, place, passphrase_file, replace=True, as_json=as_json)


@app.command()
def abandon(
    keys: KeysOption,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="All members give it up, and none has finished.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the new share of a re-sharing that will not be finished; the old one stays."""
    if not yes:
        raise InvalidInput(
            "a re-sharing that one member has finished must be finished by all",
            hint="ask all the others; if nobody has, add --yes",
        )
    there = ShareFolder(keys, b"").abandon()
    show({"deleted": there}, "deleted" if there else "there was none", as_json=as_json)


def _take_part(
    path: Path, place: MemberPlace, passphrase_file: Path | None, *, replace: bool, as_json: bool
) -> None:
    logging.configure("WARNING")
    file = ResharingFile.parse(read_file(path, MAX_FILE_BYTES))
    process = ResharingProcess(file, place, read_passphrase(passphrase_file), replace=replace)
    note(f"re-sharing {fingerprint(file.digest.hex())}: compare with the other members")
    note(f"replaced: {_points(process.replaced)}")
    done = asyncio.run(process.run(lambda address: note(f"listening on {address}"), _progress))
    facts = {
        "generation": file.generation,
        "succession": done.name,
        "fingerprint": fingerprint(done.name),
        "point": process.point,
        "successions": str(place.out / FILE_NAME),
        "unreached": sorted(done.unreached),
    }
    lines = (
        f"new share      {place.out}   generation {file.generation}, in force once you restart\n"
        f"successions    {place.out / FILE_NAME}   give it to guardians, registrar and clients\n"
        f"fingerprint    {fingerprint(done.name)}   compare with the other members"
    )
    if done.unreached:
        out_of_reach = _points(tuple(sorted(done.unreached)))
        lines += f"\nout of reach   {out_of_reach}: run this again if they still need messages"
    show(facts, lines, as_json=as_json)


def _progress(round_: IntEnum) -> None:
    rounds = list(ResharingRound)
    note(f"round {rounds.index(ResharingRound(round_)) + 1} of {len(rounds)}: "
         f"{round_.name.lower()}")  # fmt: skip


def _points(points: tuple[int, ...]) -> str:
    return "nobody" if not points else "member " + ", ".join(str(point) for point in points)
