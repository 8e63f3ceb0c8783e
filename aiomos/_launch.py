"""What a command line asks for, and where a worker of it stands: plain values, sent as JSON."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from aiomos._engine.errors import ConfigError


def _tuples(value: Any) -> Any:
    """Lists, which JSON makes of tuples, as tuples again."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


#: What there may be of workers: entries of the table from hash to worker.
MOST_WORKERS = 128
#: Processes that can share the memory of DPDK, which gives each a number.
MOST_LCORES = 128
#: Name of the rings from a distributor to the workers, in that memory.
FAN = "workers"
#: No machine has a core of a higher number.
MOST_CORES = 1 << 16


@attrs.frozen(kw_only=True)
class Launch:
    """An app, where its frames come from, and how it is run.

    Attributes:
        app: ``MODULE_OR_FILE[:NAME]``.
        files: captures to replay, merged by time; none: a live source.
        interface: the kernel interface to watch.
        dpdk: DPDK devices to take frames from.
        huge: whether DPDK takes huge pages.
        exclusive: take its frames from the kernel, by AF_XDP.
        force: also where that cuts this host off.
        promiscuous: ask for frames of others, too.
        direction: ``"both"``, ``"in"`` or ``"out"``.
        buffer: bytes of the kernel's ring for one worker; 0: the usual.
        pump: bytes of the ring behind a thread of its own that receives; 0: no such thread.
        io_patience: real seconds that one operation may hold capture time.
        drain: seconds that a worker gets to end in, and open flows on code that was replaced.
        engine: keywords of :class:`aiomos.Engine`.
    """

    app: str
    files: tuple[str, ...] = attrs.field(default=(), converter=_tuples)
    interface: str | None = None
    dpdk: tuple[str, ...] = attrs.field(default=(), converter=_tuples)
    huge: Literal["auto", "yes", "no"] = "auto"
    exclusive: bool = False
    force: bool = False
    promiscuous: bool = True
    direction: Literal["both", "in", "out"] = "both"
    buffer: int = 0
    pump: int = 0
    io_patience: float = 5.0
    drain: float = 30.0
    engine: dict[str, Any] = attrs.field(factory=dict)

    @property
    def live(self) -> bool:
        return not self.files

    @property
    def name(self) -> str:
        """What the frames come from, for people."""
        return ", ".join(self.files or self.dpdk) or str(self.interface)


@attrs.frozen(kw_only=True)
class Place:
    """Where a worker stands among the others, and the descriptors it was given.

    Attributes:
        number: from 0; the distributor's is that of the workers.
        count: workers in all.
        cores: those that it may run on; none: any.
        opens: it opens the source of the launch by itself.
        ledger: memory for what it counts, which outlives it; -1: none.
        packet: a packet socket and the memory in which its position is kept.
        inbox: rings that others hand frames over by: memory and bell of each.
        outbox: rings to the others: number of the worker, memory and bell.
        captured: what comes by rings is of a capture: time goes by its stamps.
        primary: file prefix of the DPDK whose ports the supervisor owns; empty: it owns none.
        fan: a distributor reads those, and hands frames over without copying them.
    """

    number: int = 0
    count: int = 1
    cores: tuple[int, ...] = attrs.field(default=(), converter=_tuples)
    opens: bool = False
    ledger: int = -1
    packet: tuple[int, int] | None = attrs.field(default=None, converter=_tuples)
    inbox: tuple[tuple[int, int], ...] = attrs.field(default=(), converter=_tuples)
    outbox: tuple[tuple[int, int, int], ...] = attrs.field(default=(), converter=_tuples)
    captured: bool = False
    primary: str = ""
    fan: bool = False

    @property
    def distributes(self) -> bool:
        """It is the distributor's."""
        return self.number == self.count

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that the process is to inherit."""
        rings = [fd for ring in self.inbox for fd in ring]
        rings += [fd for _, *ring in self.outbox for fd in ring]
        ledger = (self.ledger,) if self.ledger >= 0 else ()
        return (*(self.packet or ()), *rings, *ledger)


def cores_of(text: str) -> tuple[int, ...]:
    """``"2-5,7"`` as numbers of cores, in the order given.

    Raises:
        ConfigError: it is no such list, or names a core twice.
    """
    cores: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            named = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            named = range(0)
        if not named or named[-1] > MOST_CORES:
            raise ConfigError(f"--cores {text}: a list of cores is like 2-5,7")
        cores += named
    if len(set(cores)) < len(cores):
        raise ConfigError(f"--cores {text}: each core is named once")
    return tuple(cores)
