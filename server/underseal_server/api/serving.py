"""Puts the server together and runs it until a signal."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from underseal_core.credentials import Credentials, Role
from underseal_core.errors import InvalidInput
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.tls import own_peer
from underseal_proto.v1.gallery_pb2_grpc import add_GalleryServiceServicer_to_server
from underseal_proto.v1.search_pb2_grpc import add_SearchServiceServicer_to_server
from underseal_server.api.access import GALLERY_SERVICE, SEARCH_SERVICE, TABLE
from underseal_server.api.amend import Amending
from underseal_server.api.erasures import Signer
from underseal_server.api.gallery import GalleryServicer
from underseal_server.api.search import SearchServicer
from underseal_server.api.successions import Successions
from underseal_server.engine.admission import Admission
from underseal_server.engine.enrolled import EnrolledProbes
from underseal_server.engine.executor import Executor, ThreadExecutor
from underseal_server.engine.hosting import Hosting
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.engine.places import PerClient
from underseal_server.engine.retention import Retention
from underseal_server.engine.rotation import Rotator
from underseal_server.engine.search import SearchEngine
from underseal_server.engine.threads import Threads
from underseal_server.engine.unread import Unread
from underseal_server.metrics import Metrics
from underseal_server.settings import Settings
from underseal_server.store.store import BUNDLES, SWITCHING_KEYS, Store, utc_now

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens on ``port``."""

    port: int
    listener: Listener
    hosting: Hosting
    admission: Admission
    metrics: Metrics


@asynccontextmanager
async def running(
    settings: Settings, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[Running]:
    """Start a server; on leaving, end its calls and save every block.

    Parameters
    ----------
    settings
        All settings.
    now
        The clock.

    Raises
    ------
    InvalidInput
        Settings, credentials or bundles cannot be used.
    StorageFull, Damaged
        The data folder cannot be opened.
    """
    credentials = Credentials.load(settings.credentials)
    name = _server_name(credentials)
    async with AsyncExitStack() as stack:
        limit = settings.memory_mib << 20
        store = Store(
            settings.data,
            now,
            catalogue=settings.catalogue_url(),
            objects=settings.object_storage(),
            memory_limit=limit,
        )
        stack.callback(store.close)
        keys = KeyEpochs(settings.data / BUNDLES, settings.threads)
        stack.callback(keys.close)
        for path in settings.bundles:
            keys.add(path)
        switching = SwitchingKeys(settings.data / SWITCHING_KEYS, keys)
        threads = Threads()
        stack.callback(threads.close)
        executor = await stack.enter_async_context(_executor(settings, store, keys, threads))
        hosting = Hosting(store, keys, executor, threads)
        await hosting.open_all()
        stack.push_async_callback(hosting.save)
        retention = Retention(store, hosting, threads)
        await retention.remove_all()
        stack.push_async_callback(hosting.close)
        metrics = Metrics(TABLE)
        unread = Unread(settings.unread_mib << 20)
        admission = _admission(settings, unread, metrics)
        metrics.watch(lambda: admission.waiting, lambda: unread.total, lambda: executor.shards)
        engine = SearchEngine(admission, executor, store.templates, threads, metrics.batch)
        galleries = GalleryServicer(
            hosting,
            store,
            threads,
            per_subject=settings.templates_per_subject,
            streams=PerClient(settings.enrolments_per_client, "enrolments"),
            succession=Successions(keys, switching, threads),
            amending=Amending(hosting, keys, switching, threads),
            signer=Signer(name, credentials.identity),
        )
        searches = SearchServicer(
            hosting,
            engine,
            EnrolledProbes(store, keys, threads),
            store.requests,
            threads,
            unread,
            PerClient(settings.searches_per_client, "searches"),
            PerClient(2 * settings.merged_searches, "searches"),
            name,
            credentials.identity,
            now,
        )
        listener = _listener(settings, credentials, galleries, searches, metrics)
        if settings.metrics_listen:
            stack.callback(metrics.serve(settings.metrics_listen))
        saving = asyncio.create_task(hosting.keep_saving(settings.save_seconds))
        stack.push_async_callback(_ended, saving)
        removing = asyncio.create_task(retention.keep_removing(settings.save_seconds))
        stack.push_async_callback(_ended, removing)
        rotator = Rotator(
            store,
            hosting,
            keys,
            switching,
            threads,
            timedelta(seconds=settings.old_units_seconds),
        )
        rotating = asyncio.create_task(rotator.keep_rotating(settings.save_seconds))
        stack.push_async_callback(_ended, rotating)
        for _ in range(settings.running_searches):
            stack.push_async_callback(_ended, asyncio.create_task(engine.keep_running()))
        gc.freeze()  # what is there by now stays: no need to look through it again and again
        stack.callback(gc.unfreeze)
        port = await listener.start()
        stack.push_async_callback(listener.stop, settings.stop_seconds)
        yield Running(port, listener, hosting, admission, metrics)


async def serve(settings: Settings, started: Callable[[int], None]) -> None:
    """Run a server until SIGINT or SIGTERM.

    Parameters
    ----------
    settings
        All settings.
    started
        Told the port once the server listens.
    """
    async with running(settings) as server:
        started(server.port)
        await server.listener.serve_until_signal(settings.stop_seconds)


def _server_name(credentials: Credentials) -> str:
    peer = own_peer(credentials)
    if peer.role is not Role.SERVER:
        raise InvalidInput(
            f"these are credentials of role {peer.role}, not of a server",
            hint="use the folder 'server' that `underseal-server init` made",
        )
    return peer.name


@asynccontextmanager
async def _executor(
    settings: Settings, store: Store, keys: KeyEpochs, threads: Threads
) -> AsyncIterator[Executor]:
    if settings.executor == "threads":
        yield ThreadExecutor(threads)
        return
    # Imported here: Ray is an extra.
    try:
        from underseal_server.cluster.checkpoints import Checkpoints
        from underseal_server.cluster.executor import cluster_executor
        from underseal_server.cluster.fleet import Cluster
    except ImportError as error:
        raise InvalidInput(
            "this server has no Ray", hint="install underseal[server,ray]"
        ) from error
    objects = settings.object_storage()
    checkpoints = Checkpoints.of(settings.data, None if objects is None else objects.location)
    cluster = Cluster(
        address=settings.ray_address,
        threads=settings.ray_shard_threads,
        probe_bytes=settings.running_searches * settings.probes_mib << 20,
        namespace=f"underseal-{store.identity}",
    )
    async with cluster_executor(cluster, checkpoints, keys, threads) as executor:
        yield executor


def _admission(settings: Settings, unread: Unread, metrics: Metrics) -> Admission:
    return Admission(
        running=settings.running_searches,
        waiting=settings.queue_length,
        wait_factor=settings.queue_wait,
        merged=settings.merged_searches,
        probe_bytes=settings.probes_mib << 20,
        unread=unread,
        refused=metrics.shed,
    )


def _listener(
    settings: Settings,
    credentials: Credentials,
    galleries: GalleryServicer,
    searches: SearchServicer,
    metrics: Metrics,
) -> Listener:
    def observe(method: str, code: grpc.StatusCode, seconds: float) -> None:
        metrics.call(method, code.name, seconds)

    guard = Guard(TABLE, seconds=settings.call_seconds, observer=observe)
    register = (
        partial(add_GalleryServiceServicer_to_server, galleries),
        partial(add_SearchServiceServicer_to_server, searches),
    )
    services = (GALLERY_SERVICE, SEARCH_SERVICE)
    return Listener(settings.listen, credentials, guard, services, register)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
