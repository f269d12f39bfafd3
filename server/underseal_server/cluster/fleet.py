"""The shards of a Ray cluster: who is there, started where nodes join, dropped where they leave.

Shards outlive the server: the next one finds them, by name, with their blocks in memory. Those of
another release or of other settings are ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Final

import ray
import structlog
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from underseal_core.errors import InvalidInput
from underseal_core.scheme.evaluation import EvaluationKeys
from underseal_server.cluster.assignment import Assignment
from underseal_server.cluster.checkpoints import Checkpoints, Piece
from underseal_server.cluster.shard import Shard
from underseal_server.engine.threads import settled

LOOK_SECONDS: Final = 5.0
"""Between looks at the cluster's nodes."""
ANSWER_SECONDS: Final = 60.0
"""For a shard to start, or to confirm that it has let blocks go."""
SETTINGS: Final = {
    # Or it reports its use to its makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Or shards give way to all other processes.
    "RAY_worker_niceness": "0",
    # Bytes. Or probes and results go by way of the object store.
    "RAY_max_direct_call_object_size": str(1 << 20),
}
"""Of Ray, unless the environment says otherwise."""
STORE_BYTES: Final = 1 << 30
"""For what a Ray of the server's own passes on; by itself it takes a third of the memory."""
TILES_SHARE: Final = 0.875
"""Of a shard's memory; the rest is for the process, keys, probes and sums."""

_log: Final = structlog.get_logger("underseal.cluster")


class Lost(Exception):
    """The shard is gone, or cannot be reached."""


class Failed(Exception):
    """The shard runs, but could not do this."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where shards run.

    Parameters
    ----------
    address
        ``HOST:PORT`` of the cluster's head. Empty: a Ray of the server's own, on this machine.
    threads
        Of each shard; 0: one shard for each node, with all of its processors.
    probe_bytes
        Memory that expanded probes may take on each shard.
    namespace
        Keeps apart the shards of servers that share a cluster.
    """

    address: str
    threads: int
    probe_bytes: int
    namespace: str


@dataclass(frozen=True, slots=True)
class Room:
    """What a shard gets of a node. ``memory``: bytes."""

    name: str
    node: str
    threads: int
    memory: int


@dataclass(eq=False, slots=True)
class Member:
    """A shard that runs."""

    room: Room
    handle: Any
    epochs: set[str] = field(default_factory=set)
    """Whose evaluation keys were sent to it."""

    async def call(self, method: str, *given: Any) -> Any:
        """Call a method and return what it returns.

        Raises
        ------
        Lost, Failed
            See there.
        """
        (value,) = await self._answers(method, given, 1)
        return value

    def tell(self, method: str, *given: Any) -> None:
        """Call a method and wait for nothing."""
        getattr(self.handle, method).remote(*given)

    async def call_each(self, method: str, *given: Any, answers: int) -> list[Any]:
        """Call a method that returns so many values, which then travel one by one.

        Raises
        ------
        Lost, Failed
            See there.
        """
        if answers == 1:  # Ray takes the list for the value
            return list(await self.call(method, *given))
        return await self._answers(method, given, answers)

    async def _answers(self, method: str, given: tuple[Any, ...], count: int) -> list[Any]:
        try:
            made = getattr(self.handle, method).options(num_returns=count).remote(*given)
            return await asyncio.gather(*(made if count > 1 else [made]))
        except RayTaskError as error:
            raise Failed(str(type(error.cause).__name__)) from error
        except RayError as error:
            raise Lost(type(error).__name__) from error


def rooms(nodes: Sequence[dict[str, Any]], threads: int, prefix: str) -> list[Room]:
    """Return what shards would get of the nodes that are alive and have room for any.

    Parameters
    ----------
    prefix
        Of the shards' names.
    """
    found = []
    for node in nodes:
        cores, memory = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "memory"))
        if not node["Alive"] or not cores or not memory:
            continue
        each = min(threads or cores, cores)
        count = cores // each
        for index in range(count):
            name = f"{prefix}{node['NodeID']}-{index}"
            found.append(Room(name, node["NodeID"], each, memory // count))
    return found


class Fleet:
    """Shards, and which of them has which block.

    Parameters
    ----------
    cluster
        Where they run.
    checkpoints
        What they read.
    """

    def __init__(self, cluster: Cluster, checkpoints: Checkpoints) -> None:
        self._cluster = cluster
        self._checkpoints = checkpoints
        self._prefix = _prefix(cluster, checkpoints)
        self._members: dict[str, Member] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._keys: dict[str, tuple[str, int, ray.ObjectRef[Any]]] = {}
        self._balancing = asyncio.Lock()
        self._look = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._assignment: Assignment[str] = Assignment()

    async def start(self) -> None:
        """Connect, and begin to look for nodes; does not wait for shards.

        Raises
        ------
        InvalidInput
            There is no cluster at the address, or it refuses.
        """
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("ray").setLevel(logging.ERROR)
        # It prints news of the cluster to our standard output, with no setting against it.
        ray._private.worker._worker_logs_enabled = False
        own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        given: dict[str, Any] = {} if self._cluster.address else own
        try:
            await asyncio.to_thread(
                ray.init,
                address=self._cluster.address or "local",
                namespace=self._cluster.namespace,
                configure_logging=False,
                log_to_driver=False,
                **given,
            )
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise InvalidInput(
                "cannot join the Ray cluster",
                hint="does a node of it run on this machine, and is ray_address its head?",
            ) from error
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Leave the cluster; the shards of a cluster that was there before stay."""
        for task in (self._watching, *self._starting.values()):
            if task is not None:
                task.cancel()
                await settled(task)
        await asyncio.to_thread(ray.shutdown)

    @property
    def size(self) -> int:
        """Shards that run."""
        return len(self._members)

    def place(self, pieces: Collection[Piece]) -> list[tuple[Member, list[Piece]]]:
        """Return who scores which block; nothing if there are no shards."""
        if not self._members:
            return []
        chosen = self._assignment.place(pieces)
        return [(self._members[name], some) for name, some in chosen.items()]

    def holders(self, place: str) -> list[Member]:
        """Return the shards that have a block of a place."""
        return [self._members[name] for name in self._assignment.holders(place)]

    def knows(self, epoch: str) -> bool:
        """Whether :meth:`publish` was called for a key epoch."""
        return epoch in self._keys

    async def publish(self, epoch: str, profile: str, dimension: int, keys: EvaluationKeys) -> None:
        """Let shards have the evaluation keys of a key epoch."""
        self._keys[epoch] = profile, dimension, await asyncio.to_thread(ray.put, keys)

    async def teach(self, member: Member, epoch: str) -> None:
        """Let a shard have published keys, unless it has.

        Raises
        ------
        Lost, Failed
            See there.
        """
        if epoch not in member.epochs:
            await member.call("learn", epoch, *self._keys[epoch])
            member.epochs.add(epoch)

    def drop(self, member: Member, reason: str) -> None:
        """Take note that a shard is lost: its blocks go to others."""
        if self._members.get(member.room.name) is member:
            del self._members[member.room.name]
            self._assignment.leave(member.room.name)
            _log.warning("shard lost", node=member.room.node, reason=reason, shards=self.size)
        self._look.set()

    async def forget(self, place: str, numbers: Collection[int] | None) -> None:
        """Let blocks leave the memory of every shard; one that does not confirm it is ended."""
        self._assignment.forget(place, numbers)
        members = list(self._members.values())
        await asyncio.gather(*(self._forget(one, place, numbers) for one in members))

    async def _forget(self, member: Member, place: str, numbers: Collection[int] | None) -> None:
        try:
            chosen = None if numbers is None else set(numbers)
            await asyncio.wait_for(member.call("forget", place, chosen), ANSWER_SECONDS)
        except (Lost, Failed, TimeoutError) as error:
            self.drop(member, str(error))
            await asyncio.to_thread(ray.kill, member.handle)

    async def _watch(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._refresh()
            except Exception as error:  # noqa: BLE001  # the cluster's head may be away: it comes back
                _log.warning("cannot look at the cluster", reason=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), LOOK_SECONDS)

    async def _refresh(self) -> None:
        nodes = await asyncio.to_thread(ray.nodes)
        found = rooms(nodes, self._cluster.threads, self._prefix)
        wanted = {room.name: room for room in found}
        for name in self._members.keys() - wanted.keys():
            self.drop(self._members[name], "its node left")
        for name in wanted.keys() - self._members.keys() - self._starting.keys():
            task = asyncio.create_task(self._join(wanted[name]))
            self._starting[name] = task
            task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, _: asyncio.Task[None]) -> None:
        del self._starting[name]

    async def _join(self, room: Room) -> None:
        """Start a shard, or find the one that an earlier server left."""
        try:
            handle = await asyncio.to_thread(self._started, room)
            member = Member(room, handle)
            held = await asyncio.wait_for(member.call("held"), ANSWER_SECONDS)
        except (Lost, Failed, TimeoutError, RayError, ValueError) as error:
            _log.warning("shard did not start", node=room.node, reason=str(error))
            return
        twice = self._assignment.join(room.name, _tiles_bytes(room), held)
        self._members[room.name] = member
        for piece in twice:
            await self._forget(member, piece.place, {piece.number})
        _log.info("shard joined", node=room.node, shards=self.size, held=len(held))
        await self._balance()

    def _started(self, room: Room) -> Any:
        lasting = {"lifetime": "detached"} if self._cluster.address else {}
        for other in ray.util.list_named_actors():
            if not other.startswith(self._prefix):
                with suppress(ValueError):  # gone by itself
                    ray.kill(ray.get_actor(other))
        made = ray.remote(Shard).options(
            name=room.name,
            get_if_exists=True,
            num_cpus=room.threads,
            memory=room.memory,
            scheduling_strategy=NodeAffinitySchedulingStrategy(room.node, soft=False),
            **lasting,
        )
        limit = _tiles_bytes(room)
        return made.remote(self._checkpoints, limit, self._cluster.probe_bytes, room.threads)

    async def _balance(self) -> None:
        """Give shards that joined their part; they read it before searches ask them."""
        moved = 0
        async with self._balancing:
            while (step := self._assignment.next_move()) is not None:
                origin, target, piece = step
                member = self._members[target]
                try:
                    if self.knows(piece.epoch):
                        await self.teach(member, piece.epoch)
                        await member.call("load", [piece])
                except (Lost, Failed) as error:
                    self.drop(member, str(error))
                    return
                if target in self._members and self._assignment.has(origin, piece):
                    self._assignment.move(origin, target, piece)
                    moved += 1
                    await self._forget(self._members[origin], piece.place, {piece.number})
                else:
                    await self._forget(member, piece.place, {piece.number})
        if moved:
            _log.info("blocks moved", blocks=moved, shards=self.size)


def _prefix(cluster: Cluster, checkpoints: Checkpoints) -> str:
    """Return what names of shards begin with: release, and a hash of all that they were given."""
    given = cluster.threads, cluster.probe_bytes, checkpoints
    settings = sha256(repr(given).encode()).hexdigest()[:12]
    return f"shard-{version('underseal')}-{settings}-"


def _tiles_bytes(room: Room) -> int:
    return int(room.memory * TILES_SHARE)
