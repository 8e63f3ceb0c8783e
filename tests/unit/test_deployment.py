"""When workers of a source that has ended are told so: nothing is on its way to any of them."""

from __future__ import annotations

import pytest

from aiomos._deployment import settled_by
from aiomos._engine.rings import Ring, RingWriter, ring_source


@pytest.fixture
def rings():
    """From each of two workers to the other."""
    made = {(0, 1): Ring.create(4096), (1, 0): Ring.create(4096)}
    yield made
    for ring in made.values():
        ring.close()


def test_frame_in_a_ring_to_somebody_alive_is_on_its_way_until_it_is_given_back(rings):
    settled = settled_by(rings)
    assert settled({0, 1})
    with RingWriter(rings[0, 1]) as writer, ring_source(rings[0, 1]) as source:
        assert writer.push(b"frame")
        writer.publish()
        assert not settled({0, 1})
        assert settled({0})
        [held] = source.take(1)
        assert not settled({0, 1})
        held.release()
        assert settled({0, 1})


def test_frames_that_wait_in_a_fan_may_still_be_handed_over(rings):
    """Empty rings say nothing: whose frames wait may put a datagram together for somebody else."""
    fan = {0: 0, 1: 3}
    settled = settled_by(rings, fan.__getitem__)
    assert not settled({0, 1})
    assert settled({0})
    fan[1] = 0
    assert settled({0, 1})
