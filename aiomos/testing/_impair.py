"""What networks do to traffic, from a seed: the same seed, the same impairment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs

from aiomos._engine.source import RawFrame as Frame

_BURST_MOST = 64


def _share(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name}={value!r}: a share from 0 to 1")


@attrs.frozen(kw_only=True)
class Impair:
    """How traffic is spoilt before an engine sees it.

    ``testing.run(app, talk, impair=testing.Impair(seed=7, loss=0.02, reorder=0.1))``

    Frames of all conversations together are impaired, in this order: lost, duplicated,
    reordered, delayed. What a tap misses its receiver got: acknowledgements are not touched.

    Attributes:
        seed: of the random numbers.
        loss: share of frames that the tap misses.
        duplicate: share of frames that come twice.
        reorder: share of frames that come later than some that were sent after them.
        distance: by how many frames at most.
        delay: seconds that a frame is late at most; frames do not overtake each other by it.
        cut: least and most bytes in a TCP segment. Only scripts can be cut otherwise.
        pieces: frames lie in memory in several pieces, as some devices give them.
        burst: least and most frames that the engine takes at once; one number a run.
    """

    seed: int
    loss: float = attrs.field(default=0.0, validator=_share)
    duplicate: float = attrs.field(default=0.0, validator=_share)
    reorder: float = attrs.field(default=0.0, validator=_share)
    distance: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    delay: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    cut: tuple[int, int] | None = None
    pieces: bool = False
    burst: tuple[int, int] = (_BURST_MOST, _BURST_MOST)

    def spoiler(self) -> Spoiler:
        """The impairment from its beginning."""
        return Spoiler(self)


class Spoiler:
    """An impairment at work on one run's traffic."""

    def __init__(self, how: Impair) -> None:
        self.how = how
        # One sequence for each question, so that answers to one do not move the others.
        self._borders, self._fates, self._order, self._delays, self._bursts = (
            random.Random(f"{how.seed} {name}")
            for name in ("borders", "fates", "order", "delays", "bursts")
        )

    @property
    def cut(self) -> Callable[[int], int] | None:
        """For :meth:`Script.frames`: the size of a segment."""
        return None if self.how.cut is None else self._cut

    def _cut(self, most: int) -> int:
        assert self.how.cut is not None
        least, largest = self.how.cut
        return min(most, self._borders.randint(least, largest))

    def burst(self) -> int:
        """Frames that the engine takes at once."""
        return self._bursts.randint(*self.how.burst)

    def segment_seed(self) -> int:
        """For MemorySource: 0 leaves frames in one piece."""
        return self.how.seed % 0x7FFFFFFF + 1 if self.how.pieces else 0

    def __call__(self, frames: Iterable[Frame]) -> list[Frame]:
        """The frames that are left, in order of their times."""
        return self._delayed(self._reordered(self._survivors(frames)))

    def _survivors(self, frames: Iterable[Frame]) -> list[Frame]:
        out: list[Frame] = []
        for frame in frames:
            lost, twice = self._fates.random(), self._fates.random()
            if lost >= self.how.loss:
                out += [frame] * (1 + (twice < self.how.duplicate))
        return out

    def _reordered(self, frames: list[Frame]) -> list[Frame]:
        """Places change, times stay: the tap's clock does not go back."""
        if not self.how.reorder:
            return frames
        wished = [self._place(index) for index in range(len(frames))]
        places = sorted(range(len(frames)), key=wished.__getitem__)
        times = [frame.time_ns for frame in frames]
        return [
            frames[place]._replace(time_ns=time) for place, time in zip(places, times, strict=True)
        ]

    def _place(self, index: int) -> float:
        late, by = self._order.random(), self._order.randint(1, self.how.distance)
        return index + by + 0.5 if late < self.how.reorder else index

    def _delayed(self, frames: list[Frame]) -> list[Frame]:
        if not self.how.delay:
            return frames
        out: list[Frame] = []
        last = 0
        for frame in frames:
            late = round(self._delays.uniform(0, self.how.delay) * 1e9)
            last = max(last, frame.time_ns + late)
            out.append(frame._replace(time_ns=last))
        return out
