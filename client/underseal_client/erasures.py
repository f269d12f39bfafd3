"""What has become of removed templates: the server's signed receipts, and the auditors' amendments.

That a unit's file is deleted is the server's word about its own storage. That auditors erased a
template out of a unit is checked: k of them signed the amendment, and the enrolment says which of
the unit's places is the template's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_client.wire import galleries as wire
from underseal_core.amendment import Amendment, open_amendment
from underseal_core.erasure import ErasureReceipt
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.log_entries import encode_entry
from underseal_core.provenance import EnrolReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from underseal_client.context import ClientContext
    from underseal_client.records import SentErasure
    from underseal_core.credentials import Peer
    from underseal_core.roster import Roster
    from underseal_core.signing import Envelope

_AT_ONCE: Final = 20
"""Templates in one call, the most that servers take."""
_MAX_PAGES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Erasure:
    """A removed template, by its 16-byte ids.

    ``receipt`` is verified; ``None``: removed, so that no search finds it, but not erased yet.
    ``signed``: the receipt as signed. ``amendment``: what the auditors signed, if they erased it.
    ``server_key``: signed the receipt; it was compared only if the settings name the server's key.
    """

    template_id: bytes
    subject_id: bytes
    removed_version: int
    removed_at: str
    receipt: ErasureReceipt | None = None
    signed: Envelope | None = None
    amendment: Envelope | None = None
    server_key: bytes = b""

    def write(self, folder: Path) -> None:
        """Write receipt and amendment as JSON files named after the template; none if pending."""
        named = (("erasure", self.signed), ("amendment", self.amendment))
        folder.mkdir(parents=True, exist_ok=True)
        for kind, envelope in named:
            if envelope is not None:
                path = folder / f"{self.template_id.hex()}.{kind}.json"
                path.write_bytes(encode_entry(envelope) + b"\n")


@dataclass(frozen=True, slots=True)
class ErasureVerifier:
    """Checks what a server sends about removed templates of one gallery.

    ``rosters`` returns all generations of a key epoch's shares; ``server_key`` is ``None`` when
    the settings do not name it: then a receipt is at least signed by someone.
    """

    gallery: str
    rosters: Callable[[str], Sequence[Roster]]
    server_key: bytes | None
    me: Peer

    def open(self, sent: SentErasure) -> Erasure:
        """Check all that came for a template.

        Raises
        ------
        PermissionRefused
            The server, k auditors, or the enroller did not sign what they must have signed.
        Damaged
            It speaks of something else than this template of this gallery.
        """
        told = (sent.template_id, sent.subject_id, sent.removed_version, sent.removed_at)
        if sent.receipt is None:
            return Erasure(*told)
        key = sent.receipt.signatures[0].public_key if self.server_key is None else self.server_key
        receipt = ErasureReceipt.open(sent.receipt, key)
        ids = bytes.fromhex(receipt.template_id), bytes.fromhex(receipt.subject_id)
        if (receipt.gallery, *ids, receipt.removed_version, receipt.removed_at) != (
            self.gallery,
            *told,
        ):
            raise Damaged("the server sent a receipt of another erasure")
        amendment = self._check_amended(sent, receipt) if receipt.how == "amended" else None
        return Erasure(*told, receipt, sent.receipt, amendment, key)

    def _check_amended(self, sent: SentErasure, receipt: ErasureReceipt) -> Envelope:
        if sent.amendment is None or sent.origin is None:
            raise Damaged("a receipt of erasure came without what the auditors signed")
        epoch = Amendment.parse(sent.amendment.payload).pin.key_epoch
        amendment = open_amendment(sent.amendment, self.rosters(epoch))
        named = EnrolReceipt.parse(sent.origin.receipt.payload).client
        signers = [entry.public_key for entry in sent.origin.receipt.signatures]
        if named == self.me.name and signers != [self.me.key]:
            raise PermissionRefused("a template is said to be enrolled from here, and is not")
        receipt.check_amended(amendment, sent.origin, signers[0])
        return sent.amendment


def erasures(
    context: ClientContext, gallery: str, template_ids: Sequence[bytes], subject_id: bytes
) -> Iterator[Erasure]:
    """Yield removed templates; see :meth:`underseal_client.Client.erasures`."""
    verifier = ErasureVerifier(
        gallery,
        context.rosters_of,
        context.server_key,
        context.connection.me,
    )
    if template_ids:
        wanted = list(dict.fromkeys(template_ids))
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            sent, _ = _page(context, gallery, some)
            if sorted(one.template_id for one in sent) != sorted(some):
                raise Damaged("the server speaks of other templates than were asked about")
            yield from map(verifier.open, sent)
        return
    after = ""
    for _ in range(_MAX_PAGES):
        sent, after = _page(context, gallery, subject_id=subject_id, after=after)
        if subject_id and any(one.subject_id != subject_id for one in sent):
            raise Damaged("the server speaks of another subject than was asked about")
        yield from map(verifier.open, sent)
        if not after:
            return
    raise Damaged("the server's list of erasures does not end")


def _page(
    context: ClientContext,
    gallery: str,
    template_ids: Sequence[bytes] = (),
    subject_id: bytes = b"",
    after: str = "",
) -> tuple[list[SentErasure], str]:
    connection = context.connection
    request = wire.list_erasures_to_wire(gallery, template_ids, subject_id, after)
    answer = connection.ask(connection.galleries.ListErasures, request, repeat=True)
    return wire.erasures_from_wire(answer)
