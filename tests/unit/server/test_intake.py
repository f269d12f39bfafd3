"""Units on their way in: stored together, shown together, beside searches. Real keys and disk."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.server_fixtures import Lab, UnitContent, labelled, signed_for, unit_vectors
from underseal_core.errors import Conflict, Damaged, NotFound
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_server.engine.executor import ThreadExecutor
from underseal_server.engine.hosted import Hosted
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.keys import KeyEpochs
from underseal_server.engine.threads import Threads
from underseal_server.store.records import GallerySpec, NewTemplate, Receipt, State
from underseal_server.store.store import BUNDLES, Store

LAB = Lab()
VECTORS = unit_vectors(12)
ROWS = [LAB.row(VECTORS[i : i + 1]) for i in range(len(VECTORS))]
PATIENCE = 60.0


@asynccontextmanager
async def hosting(folder: Path) -> AsyncIterator[tuple[Hosting, Hosted]]:
    store = Store(folder)
    LAB.bundle.save(folder / BUNDLES / f"{LAB.bundle.epoch}.usb")
    keys, threads = KeyEpochs(folder / BUNDLES, 2), Threads()
    made = Hosting(store, keys, ThreadExecutor(threads), threads)
    try:
        await made.create(GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 9))
        yield made, await made.open("missing")
    finally:
        await made.close()
        threads.close()
        keys.close()
        store.close()


async def enrol(
    made: Hosting,
    hosted: Hosted,
    row: Ciphertext,
    until: State = State.ACTIVE,
    *,
    token: bytes = b"",
    templates: list[NewTemplate] | None = None,
) -> Receipt:
    with hosted.store.files.stage(Shape.ROW) as staged:
        staged.write(row.to_bytes())
        content = UnitContent(
            token or secrets.token_bytes(16), Shape.ROW, templates or labelled(1), staged, LAB.pin
        )
        return await made.enrol(hosted, signed_for("missing", content), staged, until)


def run(folder: Path, test: Callable[[Hosting, Hosted], Awaitable[None]]) -> None:
    async def main() -> None:
        async with hosting(folder) as (made, hosted), asyncio.timeout(PATIENCE):
            await test(made, hosted)

    asyncio.run(main())


def test_units_that_come_together_share_a_commit_and_a_version(tmp_path: Path) -> None:
    commits: list[None] = []

    async def test(made: Hosting, hosted: Hosted) -> None:
        engine = made._store._database._engine
        sa.event.listen(engine, "commit", lambda _: commits.append(None))
        units = [enrol(made, hosted, row) for row in ROWS]
        receipts = await asyncio.gather(*units)
        assert {receipt.state for receipt in receipts} == {State.ACTIVE}
        # Two transactions for each of 12 units would be 24.
        assert len(commits) <= len(ROWS)
        assert max(receipt.version for receipt in receipts) < len(ROWS)
        slots = {(r.placement.block, r.placement.first_slot) for r in receipts}
        assert len(slots) == len(ROWS)
        assert hosted.store.view().templates == len(ROWS)

    run(tmp_path, test)


def test_a_search_neither_waits_for_an_enrolment_nor_sees_it_half_done(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        await enrol(made, hosted, ROWS[0])
        async with hosted.reading() as opened:
            before, tiles = opened.view(), opened.tiles(0).copy()
            receipts = [await enrol(made, hosted, row, State.PENDING) for row in ROWS[1:4]]
            assert {(r.state, r.version) for r in receipts} == {(State.PENDING, 0)}
            assert made._store.units.pending_templates(hosted.gallery) == 3
            assert opened.view() == before
            assert (opened.tiles(0) == tiles).all()
        await asyncio.gather(*(hosted.intake.shown(r.token) for r in receipts))
        after = hosted.store.view()
        assert after.templates == 4
        assert after.root != before.root

    run(tmp_path, test)


def test_what_was_pending_at_a_crash_is_shown_after_the_start(tmp_path: Path) -> None:
    async def before(made: Hosting, hosted: Hosted) -> None:
        async with hosted.reading():
            for row in ROWS[:3]:
                await enrol(made, hosted, row, State.PENDING)
            await made.close()

    async def after(made: Hosting, hosted: Hosted) -> None:
        await hosted.intake.drain()
        view = hosted.store.view()
        assert (view.version, view.templates) == (1, 3)

    run(tmp_path, before)
    run(tmp_path, after)


def test_a_repeated_token_is_answered_in_every_state(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        token, templates = secrets.token_bytes(16), labelled(1)

        def again(until: State, row: Ciphertext = ROWS[0]) -> Awaitable[Receipt]:
            return enrol(made, hosted, row, until, token=token, templates=templates)

        async with hosted.reading():
            at_once = [again(State.PENDING) for _ in range(3)]
            first, *others = sorted(await asyncio.gather(*at_once), key=lambda r: r.repeated)
            assert (first.state, first.repeated) == (State.PENDING, False)
            assert [(r.state, r.repeated) for r in others] == [(State.PENDING, True)] * 2
            with pytest.raises(Conflict, match="other content"):
                await again(State.PENDING, ROWS[1])
        active = await again(State.ACTIVE)
        assert (active.state, active.repeated, active.version) == (State.ACTIVE, True, 1)
        unit = made._store.units.by_token(hosted.gallery, token)
        assert unit is not None
        assert await made.remove(hosted, {unit.id: [templates[0].template_id]}) == 1
        assert (await again(State.ACTIVE)).state is State.REMOVED

    run(tmp_path, test)


def test_removing_what_is_pending_takes_it_out_of_the_next_search(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        async with hosted.reading():
            templates = labelled(1)
            receipt = await enrol(made, hosted, ROWS[0], State.PENDING, templates=templates)
        unit = made._store.units.by_token(hosted.gallery, receipt.token)
        assert unit is not None
        assert await made.remove(hosted, {unit.id: [templates[0].template_id]}) == 1
        assert hosted.store.view().templates == 0
        assert not hosted.store.tiles(0).any()

    run(tmp_path, test)


def test_a_unit_whose_file_is_lost_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        async with hosted.changing:  # nothing is shown meanwhile
            lost = await enrol(made, hosted, ROWS[0], State.PENDING)
            await hosted.intake.close()
            path = hosted.store.files.path(lost.token)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            others = [asyncio.create_task(enrol(made, hosted, row)) for row in ROWS[1:4]]
            await asyncio.sleep(0)
        assert {r.state for r in await asyncio.gather(*others)} == {State.ACTIVE}
        with pytest.raises(Damaged):
            await hosted.intake.shown(lost.token)
        assert hosted.store.view().templates == 3
        assert [unit.token for unit in hosted.store.pending()] == [lost.token]

    run(tmp_path, test)


def test_who_waits_hears_that_the_gallery_was_deleted(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        async with hosted.reading():
            receipt = await enrol(made, hosted, ROWS[0], State.PENDING)
            waiting = asyncio.create_task(hosted.intake.shown(receipt.token))
            deleting = asyncio.create_task(made.delete(hosted.gallery))
            await asyncio.sleep(0)
        await deleting
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        assert outcome is None or isinstance(outcome, NotFound)
        with pytest.raises(NotFound, match="no gallery"):
            await made.open("missing")

    run(tmp_path, test)


def test_a_cancelled_enrolment_leaves_all_or_nothing(tmp_path: Path) -> None:
    async def test(made: Hosting, hosted: Hosted) -> None:
        tasks = [asyncio.create_task(enrol(made, hosted, row)) for row in ROWS]
        for steps, task in enumerate(tasks):
            for _ in range(steps):
                await asyncio.sleep(0.002)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await hosted.intake.drain()
        live = made._store.units.live(hosted.gallery)
        kept = {path.name for path in hosted.store.files.path(b"").parent.iterdir()}
        assert kept == {f"{unit.token.hex()}.unit" for unit in live}
        assert hosted.store.view().templates == len(live)

    run(tmp_path, test)
