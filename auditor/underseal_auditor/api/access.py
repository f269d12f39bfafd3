"""Who may call what on the registrar's listener. A missing row means denied."""

from __future__ import annotations

from typing import Final

from underseal_core.credentials import Role
from underseal_core.rpc.access import EVERYONE, STANDARD_METHODS, AccessTable

SERVICE: Final = "underseal.v1.RegistrarService"
LOG_SERVICE: Final = "underseal.v1.LogService"
APPROVAL_SERVICE: Final = "underseal.v1.ApprovalService"

ACCESS: Final[AccessTable] = {
    f"/{SERVICE}/Submit": frozenset({Role.CLIENT}),
    f"/{SERVICE}/GetRelease": frozenset({Role.CLIENT}),
    f"/{SERVICE}/FileWarrant": frozenset({Role.CLIENT}),
    f"/{SERVICE}/GetPolicy": EVERYONE,
    f"/{LOG_SERVICE}/GetCheckpoint": EVERYONE,
    f"/{LOG_SERVICE}/GetConsistency": EVERYONE,
    f"/{LOG_SERVICE}/GetTile": EVERYONE,
    f"/{LOG_SERVICE}/GetEntries": EVERYONE,
    f"/{LOG_SERVICE}/AddCosignature": EVERYONE,
    f"/{APPROVAL_SERVICE}/ListPending": frozenset({Role.APPROVER}),
    f"/{APPROVAL_SERVICE}/Decide": frozenset({Role.APPROVER}),
    **STANDARD_METHODS,
}
