"""What a supervisor owns of DPDK, so that workers need not: the ports, their memory, the rings.

It is the primary process, and takes no frame itself: workers and the distributor attach as
secondary processes (_dpdkplace.py). What a dead one held is taken back; at the end all is counted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from aiomos._engine import dpdkconfig
from aiomos._engine.dpdkconfig import DpdkConfig
from aiomos._engine.dpdkfacts import PortInfo
from aiomos._engine.errors import AiomosError, ConfigError, SourceError
from aiomos._launch import FAN, MOST_LCORES, Launch
from aiomos.rss import TABLE

log = logging.getLogger("aiomos")

#: Frames on their way to one worker; it may hold as many again.
WAITING = 4096
#: Frames that may be held of a queue that a worker reads itself.
BUDGET = 8192
#: Virtual devices that other processes can read, if one has opened them.
_READ_BY_OTHERS = ("net_pcap", "net_ring", "net_null", "net_tap", "net_memif")
#: So many characters after its name, and nothing of the others.
_PCAP_ARGUMENTS = 63
#: Mbufs of a queue besides the budget, and bytes of each (docs/dpdk.md); MiB for all else.
_BESIDES, _MBUF, _REST = 4096, 2816, 16


def why_apart(launch: Launch, count: int) -> str | None:
    """Why DPDK's memory cannot be shared with so many workers; None: it can.

    Raises:
        ConfigError: a device that is none.
        SourceError: huge pages were asked for, and there are none to share.
    """
    if launch.huge == "no":
        return "--huge no"
    for device in launch.dpdk:
        if limit := _limit_of(device):
            return limit
    if count + 2 > MOST_LCORES:
        return f"{MOST_LCORES - 2} processes at most can share DPDK's memory"
    obstacle = _no_pages(launch, count)
    if obstacle and launch.huge == "yes":
        raise SourceError(obstacle)
    return obstacle


def _limit_of(device: str) -> str | None:
    """What a driver cannot do for other processes than the one that opened the device."""
    name = dpdkconfig.device_name(device)
    if not dpdkconfig.is_virtual(name):
        return None
    if not name.startswith(_READ_BY_OTHERS):
        return f"one process alone can have {name}"
    if name.startswith("net_pcap"):
        if "infinite_rx=1" in device:
            return f"one process alone can read {name} again and again"
        if len(device) - len(name) - 1 > _PCAP_ARGUMENTS:
            return f"{name} tells other processes {_PCAP_ARGUMENTS} characters of its arguments"
        if dpdkconfig.queues_of(device) > 1:
            return f"one process alone reads all captures of {name}"
    return None


def _no_pages(launch: Launch, count: int) -> str | None:
    """What is missing of huge pages."""
    needed = _needed_mib(launch, count)
    free = dpdkconfig.huge_mib()
    if free < needed:
        return (
            f"{free} MiB of huge pages are free, and {count} workers need {needed} to share:"
            f" {dpdkconfig.how_to_reserve(needed)}"
        )
    if not dpdkconfig.huge_mounts():
        return (
            "memory is shared by way of a hugetlbfs, and none is mounted:"
            " mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages"
        )
    return None


def pages_shared(launch: Launch, count: int) -> int:
    """Huge pages that so many workers share: each is a file that stays open."""
    return _needed_mib(launch, count) // 2


def _needed_mib(launch: Launch, count: int) -> int:
    mbufs = count * max(2 * WAITING, BUDGET + _BESIDES)
    return len(launch.dpdk) * mbufs * _MBUF // (1 << 20) + _REST


def why_not_direct(info: PortInfo, count: int) -> str | None:
    """Why workers cannot read a queue of this port each; None: they can.

    The port spreads frames over ``count`` queues by the hash that is everybody's (aiomos.rss).
    """
    if info.rss != "key":
        return f"the hash of {info.name} is not known to be symmetric and computable ({info.rss})"
    if info.ends:
        return f"{info.name} reads captures"
    if info.reta_size % TABLE and (TABLE % count or info.reta_size % count):
        return f"the table of {info.name} has {info.reta_size} entries, not {TABLE}"
    return None


class SharedPorts:
    """The ports of a launch, open, and the rings to the workers if there is a distributor.

    Attributes:
        prefix: by which other processes find them.
        why_fan: why the workers do not read queues of their own; None: they do.
    """

    def __init__(self, launch: Launch, count: int) -> None:
        self.count = count
        self.ports: list[Any] = []  # Port and Fan of the module that links DPDK
        self.fan: Any = None
        self._dpdk = dpdk = dpdkconfig.load()
        config = DpdkConfig(devices=launch.dpdk, huge="yes", shared=True)
        self.prefix: str = dpdk.initialise(config).file_prefix
        self.why_fan: str | None = None

    def open(self, launch: Launch) -> None:
        """Opens the ports, and the rings if the workers cannot do without a distributor."""
        self.why_fan = self._open_queues(launch)
        if self.why_fan:
            self._close_ports()
            self._open_fan(launch)

    def _open_queues(self, launch: Launch) -> str | None:
        """A queue for each worker, of each port; or why there cannot be."""
        if launch.engine.get("tunnel_in_key"):
            return "tunnels are part of a flow's key, and NICs hash what is outside of them"
        for device in launch.dpdk:
            name = dpdkconfig.device_name(device)
            if not may_be_direct(name):
                return f"the hash of {name} is not known to be symmetric"
            try:
                self._open(device, queues=self.count, budget=BUDGET)
            except ConfigError as error:
                return str(error)
            if why := why_not_direct(self.ports[-1].info(), self.count):
                return why
        return None

    def _open_fan(self, launch: Launch) -> None:
        for device in launch.dpdk:
            self._open(device, queues=1, budget=2 * WAITING * self.count)
        self.fan = self._dpdk.create_fan(FAN, self.count, size=WAITING)

    def _open(self, device: str, **options: Any) -> None:
        # Those who read cannot be woken by interrupts that the supervisor gets.
        port = self._dpdk.open_port(device, shared=True, interrupts=False, **options)
        self.ports.append(port)

    # ---- what outlives a process -------------------------------------------------------------

    def taken(self, number: int) -> int:
        """Frames that the processes at a place have taken from the ports, or from its ring."""
        if self.fan is None:
            return sum(int(port.taken(number)) for port in self.ports)
        if self._is_fed(number):
            return int(self.fan.taken(number))
        return sum(int(port.taken(0)) for port in self.ports)

    def waiting(self, number: int) -> int:
        """Frames on the way to a worker behind a distributor."""
        return int(self.fan.waiting(number)) if self._is_fed(number) else 0

    def dropped(self, number: int) -> int:
        """Frames that found the ring to such a worker full."""
        return int(self.fan.dropped(number)) if self._is_fed(number) else 0

    def given(self) -> int:
        """Frames that distributors had for workers so far, those included."""
        of = range(self.count)
        return sum(self.taken(n) + self.waiting(n) + self.dropped(n) for n in of)

    def _is_fed(self, number: int) -> bool:
        return self.fan is not None and number < self.count

    def recover_reader(self, number: int) -> None:
        """What a process held that read queues and died, the distributor's number included."""
        queue = number if self.fan is None else 0
        for port in self.ports:
            port.recover(queue)

    def settle(self, number: int) -> tuple[dict[str, int], int]:
        """A process at a place has died: what only the device knows, by fields of WorkerStats; and
        what the ring to it had no room for."""
        if self.fan is not None and self._is_fed(number):
            return {}, int(self.fan.settle(number))
        queue = number if self.fan is None else 0
        return {"dropped_nic": sum(int(port.settle(queue)) for port in self.ports)}, 0

    def recover_worker(self, number: int) -> None:
        """The same where there is no distributor any more."""
        if self.fan is not None:
            self.fan.recover(number)

    # ---- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Behind the last process: takes everything back, and counts. What is missing is said."""
        if self.fan is not None:
            for number in range(self.count):
                self.fan.recover(number)
            self.fan.close()
        for port in self.ports:
            for queue in range(port.info().rx_queues):
                port.recover(queue)
        try:
            self._close_ports()
            self._dpdk.shutdown()
        except AiomosError as error:
            log.error("DPDK's memory leaks: %s", error)

    def _close_ports(self) -> None:
        """All of them, also behind one that misses mbufs."""
        with contextlib.ExitStack() as stack:
            for port in self.ports:
                stack.callback(port.close)
            self.ports.clear()


def may_be_direct(name: str) -> bool:
    """Whether it is worth a try to have a queue for each worker: virtual devices have no hash."""
    return not dpdkconfig.is_virtual(name)


@contextlib.contextmanager
def shared_ports(launch: Launch, count: int) -> Iterator[SharedPorts]:
    """Opens the ports for so many workers; closed, and counted, at the end.

    Raises:
        ConfigError: a device that is none.
        SourceError: it cannot be opened, or there are no huge pages.
    """
    shared = SharedPorts(launch, count)
    try:
        shared.open(launch)
        yield shared
    finally:
        shared.close()
