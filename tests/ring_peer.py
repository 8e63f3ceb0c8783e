"""The other process of test_ring_processes.py: writes or reads a ring that it inherited.

Arguments: write, write_and_die, read or take_and_die; the ring's descriptor and bell; numbers.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time

from aiomos._engine.rings import Ring, RingWriter, ring_source

_BYTES = random.Random(1).randbytes(4096)


def content(number: int) -> bytes:
    """Up to 1 500 bytes that follow from the number, and begin with it."""
    return number.to_bytes(4, "big") + _BYTES[number % 2048 :][: number * 7919 % 1497]


def write(ring: Ring, first: int, count: int, *, pauses: bool) -> None:
    """Frames from number ``first`` on; waits for room, so that none is dropped."""
    rng = random.Random(first)
    with RingWriter(ring) as writer:
        for number in range(first, first + count):
            if number % 16 == 0:
                writer.publish()  # for what is not published is not counted as used
                while ring.stats().used > ring.stats().size - 65536:
                    time.sleep(0.0005)
            assert writer.push(content(number), number)
            if rng.random() < 0.1:
                writer.publish()
                if pauses and rng.random() < 0.1:
                    time.sleep(rng.choice([0, 0.0002, 0.002]))
        writer.end()


def write_and_die(ring: Ring, published: int, unpublished: int) -> None:
    writer = RingWriter(ring)
    for number in range(published):
        assert writer.push(content(number), number)
    writer.publish()
    for number in range(unpublished):
        assert writer.push(b"half written", number)
    os.kill(os.getpid(), signal.SIGKILL)


def read(ring: Ring) -> None:
    """Until the writer's end, or whoever kills it; frames given back in odd order."""
    rng = random.Random(os.getpid())
    source = ring_source(ring, end=True)
    while source.result == 0:
        frames = source.take()
        for frame in frames:
            assert frame.data == content(frame.raw.time_ns)
        rng.shuffle(frames)
        for frame in frames:
            frame.release()
        if len(frames) < 64 and source.result == 0:
            select.select([source.fileno()], [], [], 60)


def take_and_die(ring: Ring, count: int) -> None:
    """Gives back every second frame of a burst, and goes with the others."""
    source = ring_source(ring)
    for frame in source.take(count)[1::2]:
        frame.release()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    role, fd, bell, *arguments = sys.argv[1:]
    ring = Ring.attach(int(fd), int(bell))
    numbers = [int(argument) for argument in arguments]
    if role == "write":
        write(ring, *numbers, pauses=True)
    elif role == "write_and_die":
        write_and_die(ring, *numbers)
    elif role == "read":
        read(ring)
    else:
        take_and_die(ring, *numbers)


if __name__ == "__main__":
    main()
