"""The probe of a request that names an enrolled template: made of the stored row."""

from __future__ import annotations

from collections.abc import Iterator

from underseal_core.errors import NotFound
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.rerandomise import probe_of
from underseal_core.statements import SearchRequest
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.threads import Threads, finish
from underseal_server.store.store import Store


class EnrolledProbes:
    """Makes probes of stored rows.

    Parameters
    ----------
    store
        The data folder.
    keys
        Key epochs: their public keys are kept once they are read.
    threads
        For the store's work.
    """

    def __init__(self, store: Store, keys: KeyEpochs, threads: Threads) -> None:
        self._store = store
        self._keys = keys
        self._pool = threads.store
        self._public: dict[str, Residues] = {}

    async def probe(self, hosted: Hosted, request: SearchRequest) -> Ciphertext:
        """Return the probe of a request, the same that every auditor makes of its own copy.

        Raises
        ------
        NotFound
            The template is not enrolled, or goes meanwhile.
        InvalidInput, Mismatch
            See ``EnrolReceipt.check_probe``.
        Damaged
            Its file is.
        """
        return await finish(self._pool, self._made, hosted, request)

    def _made(self, hosted: Hosted, request: SearchRequest) -> Ciphertext:
        hosted.check()
        gallery, epoch = hosted.gallery, request.pin.key_epoch
        number, receipt = self._store.templates.enrolment(gallery, request.own_template)
        receipt.check_probe(epoch)
        (unit,) = self._store.units.by_ids([number])
        rows: Iterator[Ciphertext] = hosted.store.files.ciphertexts(unit)
        row = next(rows, None)
        if row is None:
            raise NotFound("the template to search with has just been removed")
        if epoch not in self._public:
            self._public[epoch] = self._keys.bundle(epoch).public_key
        return probe_of(row, self._public[epoch], request.probe_seed())
