"""Everything that can be traffic, as frames: scripts, captures, packets of other libraries."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import TypeIs

from aiomos._engine.source import RawFrame as Frame
from aiomos._engine.source import open_files, read_all
from aiomos.testing._impair import Spoiler
from aiomos.testing._script import PACE, START, Data, Script, as_bytes, ns

Path: TypeAlias = str | os.PathLike[str]
#: A frame: bytes or what has ``__bytes__``; or that, with its time in seconds since the epoch.
AnyFrame: TypeAlias = Frame | Data | tuple[Data, float]
Traffic: TypeAlias = Script | Path | AnyFrame | Iterable[AnyFrame]

_ETHERNET = 1


def frames_of(traffic: Sequence[Traffic], spoiler: Spoiler | None = None) -> list[Frame]:
    """All of it, in order of time; where times are equal, in the order that it was given.

    Frames without a time are 1 ms apart, from where scripts begin.

    Raises:
        SourceError: a capture cannot be read.
        TypeError: something is no traffic.
    """
    cut = None if spoiler is None else spoiler.cut
    parts = [one.frames(cut=cut) if isinstance(one, Script) else read(one) for one in traffic]
    if len(parts) == 1:
        merged = parts[0]
    else:
        merged = list(heapq.merge(*parts, key=attrgetter("time_ns")))
    return merged if spoiler is None else spoiler(merged)


def read(one: Path | AnyFrame | Iterable[AnyFrame]) -> list[Frame]:
    """A capture, a frame, or frames."""
    if isinstance(one, str | os.PathLike):
        with open_files(one) as source:
            return read_all(source)
    if _is_frame(one):
        return [_frame(one, 0)]
    return [_frame(frame, index) for index, frame in enumerate(one)]


def _is_frame(one: AnyFrame | Iterable[AnyFrame]) -> TypeIs[AnyFrame]:
    """Whether it is one frame; scapy packets can be iterated over, too."""
    if isinstance(one, tuple) and not isinstance(one, Frame):
        return len(one) == 2 and isinstance(one[1], int | float)
    return isinstance(one, Frame | bytearray | memoryview) or hasattr(one, "__bytes__")


def _frame(frame: AnyFrame, index: int) -> Frame:
    if isinstance(frame, Frame):
        return frame
    if isinstance(frame, tuple):
        data, time = frame
        return _made(as_bytes(data), ns(time))
    return _made(as_bytes(frame), ns(START + index * PACE))


def _made(data: bytes, time_ns: int) -> Frame:
    return Frame(data, time_ns, len(data), _ETHERNET)
