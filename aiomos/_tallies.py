"""What went to each place, by the counters of what outlives the processes there.

A process that is killed says nothing any more. Rings, sockets and ports, which are the
supervisor's, know what it took, what still waits for the next one, and what they had to drop while
nobody was there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeAlias

from aiomos._remains import Untold

if TYPE_CHECKING:
    from aiomos._dpdkports import SharedPorts
    from aiomos._engine.interface import InterfaceGroup, InterfaceStats
    from aiomos._engine.rings import Ring

#: By the numbers of the process that writes and the one that reads.
Rings: TypeAlias = "dict[tuple[int, int], Ring]"


class Tallies:
    """Counters of all places of a launch.

    Args:
        rings: between the processes.
        group: the sockets of an interface, in the order of ``sockets``.
        sockets: the numbers of the places that read them.
        shared: the DPDK ports, if they are this process's.
        pumped: the numbers of places whose processes have a ring of their own, too, whose drops
            only they know.
    """

    def __init__(
        self,
        rings: Rings | None = None,
        group: InterfaceGroup | None = None,
        sockets: tuple[int, ...] = (),
        shared: SharedPorts | None = None,
        pumped: Collection[int] = (),
    ) -> None:
        self._inbox: defaultdict[int, list[Ring]] = defaultdict(list)
        self._outbox: defaultdict[int, list[Ring]] = defaultdict(list)
        for (by, to), ring in (rings or {}).items():
            self._outbox[by].append(ring)
            self._inbox[to].append(ring)
        self._group = group
        self._sockets = sockets
        self._shared = shared
        self._pumped = pumped

    def taken(self, number: int) -> int:
        """Frames that the processes at a place have taken so far, whatever they did with them."""
        found = sum(ring.stats().taken for ring in self._inbox[number])
        if (socket := self._socket(number)) is not None:
            found += socket.frames
        return found + (self._shared.taken(number) if self._shared else 0)

    def waiting(self, number: int) -> int:
        """Frames in rings that wait to be taken."""
        every = [ring.stats() for ring in self._inbox[number]]
        found = sum(ring.pushed - ring.taken for ring in every)
        return found + (self._shared.waiting(number) if self._shared else 0)

    def given(self, number: int) -> int:
        """Frames that the processes at a place wrote into rings, or had to drop for a full one."""
        every = [ring.stats() for ring in self._outbox[number]]
        found = sum(ring.pushed + ring.dropped for ring in every)
        return found + (self._shared.given() if self._shared and self._shared.fan else 0)

    def dropped(self, number: int) -> Mapping[str, int]:
        """Frames that did not come to a place, by fields of WorkerStats; those that are known."""
        found: dict[str, int] = {}
        if (socket := self._socket(number)) is not None:
            found = {"dropped_kernel": socket.dropped_kernel, "dropped_nic": socket.dropped_nic}
        if number not in self._pumped:
            every = sum(ring.stats().dropped for ring in self._inbox[number])
            found["dropped_ring"] = every + (self._shared.dropped(number) if self._shared else 0)
        return found

    def settle(self, number: int) -> Untold:
        """A process at a place has died: the next one tells of what is lost from now on."""
        rings = sum(ring.settle() for ring in self._inbox[number])
        device: Mapping[str, int] = {}
        if self._group is not None and number in self._sockets:
            device = {"cut": self._group.settle(self._sockets.index(number)).cut}
        elif self._shared is not None:
            device, ring = self._shared.settle(number)
            rings += ring
        return Untold(device, rings if number in self._pumped else None)

    def _socket(self, number: int) -> InterfaceStats | None:
        if self._group is None or number not in self._sockets:
            return None
        return self._group.stats_of(self._sockets.index(number))
