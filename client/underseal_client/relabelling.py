"""Other labels for templates that are enrolled: sealed here, and signed for anew.

What a server shows of a unit is signed for only if it is what this client signed for before, other
people's templates in it included: it could otherwise have this client sign for a planted one.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from underseal_client import gallery as galleries
from underseal_client.connection import SERVER, retrying, translated
from underseal_client.wire import galleries as wire
from underseal_core.errors import Conflict, Damaged, PermissionRefused
from underseal_core.provenance import EnrolReceipt, template_leaf, templates_root
from underseal_core.statements import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from underseal_client.connection import Connection
    from underseal_client.context import ClientContext
    from underseal_client.records import Leaf, ListedUnit
    from underseal_client.units import LabelText
    from underseal_core.credentials import Peer

_ATTEMPTS: Final = 3
"""Somebody else may relabel templates of the same unit at the same time."""


def relabel(
    context: ClientContext,
    gallery: str,
    template_ids: Sequence[bytes],
    text: LabelText,
    subject_id: bytes = b"",
) -> None:
    """Give templates another label; see :meth:`underseal_client.Client.relabel`.

    Parameters
    ----------
    subject_id
        Whose they must be, when the server said which ones they are.
    """
    connection = context.connection
    context.check_keys(galleries.describe(connection, gallery))
    for left in reversed(range(_ATTEMPTS)):
        units = listed_units(connection, gallery, template_ids)
        receipts = [open_unit(unit, connection.me, gallery) for unit in units]  # all, then send
        check_named(units, template_ids, subject_id)
        try:
            for receipt, unit in zip(receipts, units, strict=True):
                _relabel(context, receipt, unit.leaves, frozenset(template_ids), text)
        except Conflict:
            if not left:
                raise
        else:
            return


def listed_units(
    connection: Connection, gallery: str, template_ids: Sequence[bytes]
) -> list[ListedUnit]:
    """Ask for receipts and leaves of templates' units; nothing of it is verified.

    Raises
    ------
    NotFound
        One of the templates is not there.
    """
    request = wire.list_leaves_to_wire(gallery, template_ids)

    def call() -> list[ListedUnit]:
        with translated(SERVER):
            answers = connection.galleries.ListLeaves(request, timeout=connection.call_timeout_s)
            return [wire.listed_unit_from_wire(answer) for answer in answers]

    return retrying(call)


def open_unit(unit: ListedUnit, me: Peer, gallery: str) -> EnrolReceipt:
    """Return a unit's receipt, after checking that ``me`` signed for exactly these leaves.

    Raises
    ------
    PermissionRefused
        Somebody else enrolled the unit, or did not sign it.
    Damaged
        The receipt is of other leaves or of another gallery.
    """
    named = EnrolReceipt.parse(unit.receipt.payload).client
    if named != me.name:
        raise PermissionRefused(
            f"client {named} enrolled the template, and can relabel it", hint=f"ask {named}"
        )
    receipt = EnrolReceipt.open(unit.receipt, me.key)
    leaves = [_leaf(leaf, {}) for leaf in unit.leaves]
    if (receipt.gallery, receipt.templates) != (gallery, len(leaves)) or (
        receipt.templates_root != templates_root(leaves)
    ):
        raise Damaged("the server shows other templates than were enrolled from here")
    return receipt


def check_named(
    units: Sequence[ListedUnit], template_ids: Sequence[bytes], subject_id: bytes
) -> None:
    """Check that the templates are in these units, each once, and all of one subject if given.

    Raises
    ------
    Damaged
        They are not.
    """
    leaves = [leaf for unit in units for leaf in unit.leaves if leaf.template_id in template_ids]
    subjects = {leaf.subject_id for leaf in leaves}
    if sorted(leaf.template_id for leaf in leaves) != sorted(template_ids) or (
        subject_id and subjects != {subject_id}
    ):
        raise Damaged("the server shows other templates than were asked for")


def _relabel(
    context: ClientContext,
    earlier: EnrolReceipt,
    leaves: Sequence[Leaf],
    wanted: frozenset[bytes],
    text: LabelText,
) -> None:
    """Seal, sign and send the new labels of one unit."""
    key, connection, gallery = context.bundle.label_key, context.connection, earlier.gallery
    here = [leaf.template_id for leaf in leaves if leaf.template_id in wanted]
    labels = {one: text.seal(key, gallery, one) for one in here}
    signed = next_receipt(earlier, leaves, labels).sign(connection.credentials.identity)
    request = wire.relabel_to_wire(gallery, labels, signed)
    connection.ask(connection.galleries.Relabel, request, repeat=True)


def next_receipt(
    earlier: EnrolReceipt, leaves: Sequence[Leaf], labels: Mapping[bytes, bytes]
) -> EnrolReceipt:
    """Return what to sign for new sealed labels, by template id, of a unit that was checked."""
    changed = [_leaf(leaf, labels) for leaf in leaves]
    return earlier.relabelled(changed, utc_text(datetime.now(UTC)))


def _leaf(leaf: Leaf, labels: Mapping[bytes, bytes]) -> bytes:
    sealed = labels.get(leaf.template_id)
    sha256 = leaf.label_sha256 if sealed is None else hashlib.sha256(sealed).digest()
    return template_leaf(leaf.template_id, leaf.subject_id, sha256)
