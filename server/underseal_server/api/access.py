"""Every call of the server and the roles that may make it. A missing row means denied.

Beyond the role: a gallery's owner and writers alone may enrol and remove in it, a client sees the
templates of galleries that it may write to, and of clients the owner alone may delete it: whoever
deletes a gallery can make another one of its name, and own that.
"""

from __future__ import annotations

from typing import Final

from underseal_core.credentials import Peer, Role
from underseal_core.errors import PermissionRefused
from underseal_core.rpc.access import STANDARD_METHODS, AccessTable
from underseal_server.store.records import Gallery

GALLERY_SERVICE: Final = "underseal.v1.GalleryService"
SEARCH_SERVICE: Final = "underseal.v1.SearchService"

_ONLOOKERS: Final = frozenset({Role.CLIENT, Role.AUDITOR, Role.OPERATOR})
_CLIENTS: Final = frozenset({Role.CLIENT})

TABLE: Final[AccessTable] = {
    **STANDARD_METHODS,
    f"/{GALLERY_SERVICE}/CreateGallery": _CLIENTS,
    f"/{GALLERY_SERVICE}/GetGallery": _ONLOOKERS,
    f"/{GALLERY_SERVICE}/ListGalleries": _ONLOOKERS,
    f"/{GALLERY_SERVICE}/DeleteGallery": frozenset({Role.CLIENT, Role.OPERATOR}),
    f"/{GALLERY_SERVICE}/Enrol": _CLIENTS,
    f"/{GALLERY_SERVICE}/ListTemplates": frozenset({Role.CLIENT, Role.OPERATOR}),
    f"/{GALLERY_SERVICE}/RemoveTemplates": _CLIENTS,
    f"/{GALLERY_SERVICE}/ListErasures": _CLIENTS,
    f"/{GALLERY_SERVICE}/ListLeaves": _CLIENTS,
    f"/{GALLERY_SERVICE}/Relabel": _CLIENTS,
    f"/{GALLERY_SERVICE}/SyncCatalogue": frozenset({Role.AUDITOR}),
    f"/{GALLERY_SERVICE}/FetchUnit": frozenset({Role.AUDITOR}),
    f"/{GALLERY_SERVICE}/AmendUnit": frozenset({Role.AUDITOR}),
    f"/{GALLERY_SERVICE}/GetSuccessor": _ONLOOKERS,
    f"/{SEARCH_SERVICE}/Search": _CLIENTS,
    f"/{SEARCH_SERVICE}/SearchMany": _CLIENTS,
}


def check_writer(peer: Peer, gallery: Gallery) -> None:
    """Refuse clients that may not write to ``gallery``; the table has admitted the role.

    Raises
    ------
    PermissionRefused
        A client that is neither owner nor writer.
    """
    if peer.role is Role.CLIENT and peer.name not in gallery.spec.writers:
        raise PermissionRefused(
            f"client {peer.name} is no writer of gallery {gallery.name}",
            hint=f"ask its owner, {gallery.spec.owner}",
        )


def check_owner(peer: Peer, gallery: Gallery) -> None:
    """Refuse clients that do not own ``gallery``; the table has admitted the role.

    Raises
    ------
    PermissionRefused
        A client that is not its owner.
    """
    if peer.role is Role.CLIENT and peer.name != gallery.spec.owner:
        raise PermissionRefused(
            f"client {peer.name} does not own gallery {gallery.name}",
            hint=f"ask its owner, {gallery.spec.owner}",
        )
