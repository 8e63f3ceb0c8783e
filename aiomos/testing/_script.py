"""What TCP and UDP scripts have in common: steps, their fates, and how steps become frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Self, SupportsBytes, TypeAlias

import attrs

from aiomos._engine.errors import ConfigError
from aiomos._engine.source import RawFrame as Frame
from aiomos._engine.writer import Writer
from aiomos.testing import frames

#: When scripts begin: 14 November 2023, in seconds since the epoch.
START = 1_700_000_000.0
#: Seconds between two frames of a script.
PACE = 0.001
#: The two ends, by the names that events give them.
client: Side = "client"
server: Side = "server"

Side: TypeAlias = Literal["client", "server"]
Address: TypeAlias = tuple[str, int]
Data: TypeAlias = bytes | bytearray | memoryview | SupportsBytes
Vlan: TypeAlias = Iterable[int | tuple[int, int]]
#: Where a packet is lost: see :meth:`Script.lose`.
Where: TypeAlias = Literal["tap", "before", "behind"]

_ETHERNET = 1  # link type


def ns(seconds: float) -> int:
    """Seconds as nanoseconds."""
    return round(seconds * 1e9)


def as_bytes(data: Data) -> bytes:
    """Bytes of anything that has some; of a number or a text it would be an accident.

    Raises:
        TypeError: it has none.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview) or (
        hasattr(data, "__bytes__") and not isinstance(data, os.PathLike)
    ):
        return bytes(data)
    raise TypeError(f"bytes, or what has __bytes__ as scapy packets do, not {data!r}")


def side_number(side: str) -> int:
    """0 for the client, 1 for the server.

    Raises:
        ConfigError: it is neither.
    """
    if side not in ("client", "server"):
        raise ConfigError(f"side {side!r}: it is 'client' or 'server'")
    return int(side == "server")


@attrs.define(kw_only=True, eq=False)
class Step:
    """One word of a script, and what becomes of the frames that it puts on the wire."""

    after: float | None = None  # seconds behind the frame before it; None: the pace
    captured: bool = True  # the tap sees it
    received: bool = True  # its receiver gets it
    copies: int = 0
    earlier: int = 0  # by so many frames
    fragment: int = 0  # bytes of payload in each fragment; 0: whole

    def render(self, player: Any) -> list[bytes]:
        """The frames, and what they do to the ends that the player knows."""
        raise NotImplementedError


@attrs.define(kw_only=True, eq=False)
class Wait(Step):
    """Nothing happens."""

    seconds: float

    def render(self, player: Player) -> list[bytes]:
        player.next_ns += ns(self.seconds)
        return []


@attrs.define(kw_only=True, eq=False)
class Raw(Step):
    """A frame as it is."""

    data: bytes

    def render(self, player: Player) -> list[bytes]:
        return [self.data]


class Player:
    """Turns steps into frames, one after the other; keeps time and, below, both ends."""

    def __init__(self, script: HostScript) -> None:
        self.next_ns = ns(script.start)
        self.pace_ns = ns(script.pace)
        self.vlan = script.vlan
        #: How many bytes the next segment takes at most, given the most there could be.
        self.cut: Callable[[int], int] | None = None
        self._begun = False

    def play(self, steps: Iterable[Step]) -> list[Frame]:
        """The frames of some more steps, in order of time."""
        out: list[Frame] = []
        for step in steps:
            if step.after is not None:
                self.next_ns += ns(step.after) - (self.pace_ns if self._begun else 0)
            self._put(step, step.render(self), out)
        return out

    def _put(self, step: Step, raws: list[bytes], out: list[Frame]) -> None:
        new = [self._stamped(raw) for _ in range(1 + step.copies) for raw in raws]
        if step.captured and step.earlier:
            cut = max(0, len(out) - step.earlier)
            overtaken = out[cut:]
            times = [frame.time_ns for frame in (*overtaken, *new)]
            out[cut:] = [
                frame._replace(time_ns=time)
                for frame, time in zip((*new, *overtaken), times, strict=True)
            ]
        elif step.captured:
            out += new

    def _stamped(self, raw: bytes) -> Frame:
        self._begun = True
        frame = Frame(raw, self.next_ns, len(raw), _ETHERNET)
        self.next_ns += self.pace_ns
        return frame

    def wrap(
        self,
        step: Step,
        payload: bytes,
        ends: tuple[str, str],
        protocol: int,
        ident: int,
        ttl: int,
    ) -> list[bytes]:
        """Frames around one transport payload: fragments if the step asks for them."""
        packets = frames.packets(
            payload, ends, protocol, fragment=step.fragment, ident=ident, ttl=ttl
        )
        return [frames.framed(packet, self.vlan) for packet in packets]


class Script:
    """What two hosts say, as a value that grows: every word returns the script itself.

    ``for frame in script`` and :meth:`frames` give what a tap sees of it.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def player(self) -> Player:
        """Something that plays the steps from the beginning."""
        raise NotImplementedError

    def then(self, step: Step) -> Self:
        """Append a step of any kind."""
        self.steps.append(step)
        return self

    # -- words --

    def wait(self, seconds: float) -> Self:
        """Nothing happens for so long, besides the pace.

        Raises:
            ConfigError: time does not go back.
        """
        if not seconds >= 0:
            raise ConfigError(f"wait({seconds!r}): a number of seconds from 0 up")
        return self.then(Wait(seconds=seconds))

    def frame(self, frame: Data, *, after: float | None = None) -> Self:
        """Any Ethernet frame: bytes, or what has ``__bytes__`` as scapy packets do.

        The script does not look into it: sequence numbers go on as if it had not been.
        """
        return self.then(Raw(data=as_bytes(frame), after=after))

    # -- what becomes of the last step --

    def lose(self, where: Where = "tap") -> Self:
        """The last step's packets get lost.

        Args:
            where: ``"tap"``: the capture misses them, the receiver gets and acknowledges them;
                ``"before"`` the tap: neither sees them; ``"behind"`` the tap: it sees what the
                receiver never got. A receiver that got nothing acknowledges up to the hole.

        Raises:
            ConfigError: there is no last step, or no such place.
        """
        if where not in ("tap", "before", "behind"):
            raise ConfigError(f"lose({where!r}): 'tap', 'before' or 'behind' it")
        step = self._last("lose")
        step.captured = where == "behind"
        step.received = where == "tap"
        return self

    def duplicate(self, times: int = 1) -> Self:
        """The last step's packets come again, bit by bit the same.

        Raises:
            ConfigError: there is no last step.
        """
        self._last("duplicate").copies += times
        return self

    def reorder(self, by: int = 1) -> Self:
        """The last step's packets overtake so many that were sent before them.

        Raises:
            ConfigError: there is no last step.
        """
        self._last("reorder").earlier += by
        return self

    def fragment(self, size: int) -> Self:
        """The last step's packets come in IP fragments with so many bytes of payload each.

        Raises:
            ConfigError: there is no last step, or a fragment holds less than 8 bytes.
        """
        if size < 8:
            raise ConfigError(f"fragment({size!r}): a fragment holds at least 8 bytes")
        self._last("fragment").fragment = size
        return self

    def _last(self, word: str) -> Step:
        if not self.steps or isinstance(self.steps[-1], Wait):
            raise ConfigError(f"{word}() is about the packets of the step before it: none")
        return self.steps[-1]

    # -- what it comes to --

    def frames(self, *, cut: Callable[[int], int] | None = None) -> list[Frame]:
        """What a tap sees, in order of time.

        ``cut`` is asked how many bytes each segment takes, given the most it could take.
        """
        player = self.player()
        player.cut = cut
        return player.play(self.steps)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a capture: pcap with nanoseconds, or pcapng if the name ends so.

        Raises:
            SourceError: it cannot be written.
        """
        format: Literal["pcapng", "pcap-ns"]
        format = "pcapng" if os.fspath(path).endswith(".pcapng") else "pcap-ns"
        with Writer(path, format=format) as writer:
            for frame in self:
                writer.write(frame)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.steps)} steps>"


class HostScript(Script):
    """A script that knows its two hosts, and when they speak."""

    def __init__(
        self, client: Address, server: Address, vlan: Vlan, start: float, pace: float
    ) -> None:
        super().__init__()
        self.client = client
        self.server = server
        self.vlan = tuple(vlan)
        self.start = start
        self.pace = pace
