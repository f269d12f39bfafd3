"""Erasure with every real part: a server, a registrar, two of three guardians as processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests import auditor_place
from tests.auditor_place import (
    DIMENSION,
    Desk,
    Place,
    ask,
    command,
    deployed,
    issue_roles,
    running,
    write_policy,
)
from tests.ceremony_place import PASSPHRASE, Council, council, free_ports
from tests.e2e.test_council import end, serve_guardian
from tests.guardian_place import CHEAP
from tests.plain_form import file_digest
from tests.redaction_oracle import opened
from tests.server_harness import serving
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import MemberSecrets, SoleCeremony, run_local
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.share import Share
from underseal_auditor.logbook import VKEY_NAME, create_logbook, open_logbook
from underseal_client.erasures import ErasureVerifier
from underseal_client.wire.galleries import erasures_from_wire
from underseal_core.amendment import Amendment
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Credentials
from underseal_core.labels import OpeningKey
from underseal_core.log_entries import open_entry
from underseal_core.roster import Roster
from underseal_core.rpc.tls import own_peer
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext
from underseal_core.scheme.profiles import GUARDED
from underseal_core.statements import Release
from underseal_proto.v1 import gallery_pb2
from underseal_server.pki import Authority
from underseal_server.settings import Settings

DEADLINE = 60.0
GONE = (4, 7)


def remove(place: Place, *people: int) -> None:
    ids = [place.templates[person].template_id for person in people]
    request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
    assert place.server.galleries.RemoveTemplates(request).removed == len(people)


def unit_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.unit")
    return path


def holders(root: Path, piece: bytes) -> set[str]:
    """The folders of which some file holds these bytes."""
    found = set()
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and piece in path.read_bytes():
            found.add(path.relative_to(root).parts[0])
    return found


def names(release: Release) -> list[str]:
    return [json.loads(match.templates[0].label)["name"] for match in release.matches]


def amendments(root: Path, auditor: Path) -> list[Amendment]:
    """Those in the log, when the registrar has ended."""
    logbook = open_logbook(root / "log", Credentials.load(auditor).identity)
    try:
        reader, size = logbook.log.reader, logbook.log.size
        statements = [open_entry(entry) for _, entry in reader.entries(size)]
    finally:
        logbook.close()
    return [one for one in statements if isinstance(one, Amendment)]


def test_a_removed_template_is_erased_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of twelve in one row: gone from all folders and from what all keys together open."""
    monkeypatch.setattr(auditor_place, "PASSPHRASE", PASSPHRASE.encode())
    made, keys, shares = appointed(tmp_path)
    bundle = keys.bundle
    ports = free_ports(3)
    guardians = [f"{point}=127.0.0.1:{port}" for point, port in enumerate(ports, start=1)]
    changes = {"share": None, "guardians": guardians, "erase_seconds": 0.2}
    with ExitStack() as stack:
        place = stack.enter_context(running(tmp_path, keys, **changes))
        for point in (1, 3):
            process = serve_guardian(made, point, ports[point - 1], place.server_port)
            stack.callback(end, process)
        old = unit_file(tmp_path / "server").read_bytes()
        agency = Desk(place, "agency", stack)
        before = Release.open(agency.submit(ask(place, place.vectors[4]).parts), bundle.members[0])
        assert names(before) == ["person-4"]
        piece = old[1000:1064]
        assert holders(tmp_path, piece) == {"server", "data-1", "data-3"}
        remove(place, *GONE)
        until(lambda: not holders(tmp_path, piece))
        new = unit_file(tmp_path / "server").read_bytes()
        check_opened(keys, shares, old, new)
        for person in (4, 5):
            envelope = agency.submit(ask(place, place.vectors[person]).parts)
            release = Release.open(envelope, bundle.members[2])
            assert names(release) == ([] if person in GONE else [f"person-{person}"])
        check_receipts(place, bundle)
    (amendment,) = amendments(tmp_path, made.credentials(1))
    assert amendment.redaction().erased == GONE
    assert amendment.old_sha256 == file_digest(old).hex()
    assert amendment.new_sha256 == file_digest(new).hex()
    assert amendment.members == 2


def appointed(root: Path) -> tuple[Council, SoleCeremony, list[Share]]:
    """Two of three guardians with keys, everybody's credentials, a signed policy and a log."""
    made, folder = council(root, 2, 3, profile=GUARDED, dimension=DIMENSION), root / "credentials"
    keys, shares = dealt(made)
    issue_roles(Authority.load(folder / "ca"), folder)
    (folder / "auditor").symlink_to(made.credentials(1))
    (root / "keys").symlink_to(made.out(1))
    write_policy(root, folder, made.credentials(1), made.credentials(2))
    create_logbook(root / "log", "log.example/council")
    return made, keys, shares


def dealt(made: Council) -> tuple[SoleCeremony, list[Share]]:
    """The council's keys, without a process for each member: that is another test."""
    secrets_of = [
        MemberSecrets(Credentials.load(made.credentials(point)).identity, OpeningKey.generate())
        for point in (1, 2, 3)
    ]
    label, public = OpeningKey.generate(), tuple(one.public() for one in secrets_of)
    file = CeremonyFile(GUARDED, DIMENSION, made.threshold, public, label.public)
    bundle, shares = run_local(file, secrets_of)
    for point, share in enumerate(shares, start=1):
        made.out(point).mkdir()
        bundle.save(made.out(point) / "bundle.usb")
        share_file.save(made.out(point) / "share.sealed", share, PASSPHRASE.encode(), CHEAP)
    path = made.out(1) / "label.sealed"
    share_file.save_label_key(path, label, bundle.epoch, PASSPHRASE.encode(), CHEAP)
    return SoleCeremony(bundle, shares[0], label), list(shares)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_receipts(place: Place, bundle: PublicBundle) -> None:
    """The server signs for both, with the amendment that two guardians signed."""
    ids = [place.templates[person].template_id for person in GONE]
    request = gallery_pb2.ListErasuresRequest(gallery="missing", template_ids=ids)
    sent, _ = erasures_from_wire(place.server.galleries.ListErasures(request))
    server = Credentials.load(place.credentials("server")).identity.public_key
    me, rosters = own_peer(place.server.credentials), [Roster.first(bundle)]
    verifier = ErasureVerifier("missing", lambda epoch: rosters, server, me)
    found = [verifier.open(one) for one in sent]
    assert [one.template_id for one in found] == ids
    assert [one.receipt is not None and one.receipt.how for one in found] == ["amended"] * 2


def check_opened(keys: SoleCeremony, shares: Sequence[Share], old: bytes, new: bytes) -> None:
    """By the secret of all keys, which only tests ever put together."""
    rows = [parse_ciphertext(data, GUARDED, Kind.TEMPLATE_ROW) for data in (old, new)]
    first, second = (opened(shares[:2], keys.bundle, row)[: 12 * DIMENSION] for row in rows)
    gone = np.isin(np.arange(12 * DIMENSION) // DIMENSION, GONE)
    assert np.abs(first - second)[~gone].max() < 2.0**-40
    assert np.abs(second[gone]).max() < 2.0**-40
    assert np.abs(first[gone]).max() > 0.1


def test_one_auditor_erases_by_command(tmp_path: Path) -> None:
    """1 of 1, with a registrar that is stopped and does not erase by itself."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_bytes(auditor_place.PASSPHRASE)
    with deployed(tmp_path) as place:
        old = unit_file(tmp_path / "server").read_bytes()
        remove(place, *GONE)
        flags = place.flags()
    config = tmp_path / "registrar.toml"
    settings = Settings(
        listen="127.0.0.1:0", data=tmp_path / "server", credentials=place.credentials("server")
    )
    with serving(settings) as served:
        flags = {**flags, "servers": [f"server=127.0.0.1:{served.port}"]}
        config.write_text(
            "".join(f"{name} = {json.dumps(v, default=str)}\n" for name, v in flags.items())
        )
        options = ["--config", config, "--passphrase-file", passphrase, "--json"]
        listed = json.loads(command("erasures", "list", *options).stdout)
        assert [one["templates"] for one in listed["due"]] == [len(GONE)]
        (done,) = json.loads(command("erasures", "run", *options).stdout)["done"]
        assert done["failure"] == ""
    assert holders(tmp_path, old[1000:1064]) == set()
    (amendment,) = amendments(tmp_path, place.credentials("auditor"))
    assert amendment.sha256() == done["amendment"]
    key = ["--log-key", tmp_path / "log" / VKEY_NAME]
    key += ["--bundle", tmp_path / "keys" / "bundle.usb"]
    verified = json.loads(command("log", "verify", tmp_path / "log", *key, "--json").stdout)
    assert verified["findings"] == []
