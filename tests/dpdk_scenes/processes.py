"""Several processes on one device: a primary and its secondaries, a receiver and its workers."""

from __future__ import annotations

import select
import sys
from typing import Any

from stage import close_all, digest, dpdk, held, numbered, say, start, take_all, words

from aiomos._engine.dpdkconfig import DpdkConfig
from aiomos._engine.source import HeldFrame, Source


def shared(prefix: str, folder: str, lcore: int, **options: Any) -> Any:
    """Starts DPDK with memory that others see."""
    return start(
        huge="yes", shared=True, file_prefix=prefix, huge_dir=folder, lcore=lcore, **options
    )


def join(prefix: str, folder: str, lcore: int) -> None:
    """Starts DPDK as a secondary, with the memory of its primary."""
    dpdk.initialise(
        DpdkConfig(process="secondary", file_prefix=prefix, huge_dir=folder, lcore=lcore)
    )


def primary_of_queues(prefix: str, folder: str) -> Any:
    """Opens a ring device with two queues; others read them. Does what it is told."""
    shared(prefix, folder, 0)
    port = dpdk.open_port("net_ring0", queues=2, shared=True, descriptors=256, budget=512)
    say(port.info().mbufs)
    for word in words():
        verb, _, rest = word.partition(" ")
        if verb == "close":
            break
        if verb == "in_use":
            say([port.in_use(queue) for queue in range(2)])
        elif verb == "recover":
            say(port.recover(int(rest)))
        elif verb == "counters":
            say(port.counters().received)
    return close_all(port)


def secondary_of_queue(prefix: str, folder: str, lcore: int, queue: int, n: int) -> Any:
    """Sends on its queue, takes it back, holds a part and waits to be killed or told to go on."""
    join(prefix, folder, lcore)
    with dpdk.attach_port("net_ring0") as port:
        source = port.source(queue)
        sent = numbered(n)
        assert source.transmit(0, held(sent)) == n
        come = take_all(source, n)
        for frame in come[n // 2 :]:
            frame.release()
        say([frame.data for frame in come[: n // 2]] == sent[: n // 2])
        next(words())
        for frame in come[: n // 2]:
            frame.release()
        return source.stats().outstanding


def stranger(prefix: str, folder: str) -> Any:
    """A secondary that asks for a port nobody opened."""
    join(prefix, folder, 9)
    dpdk.attach_port("net_ring7")


def push(fan: Any, worker: int, burst: list[HeldFrame]) -> int:
    """Hands frames to a worker and lets go of those that its ring did not take; the others."""
    taken: int = fan.push(worker, burst)
    for frame in burst[taken:]:
        frame.release()
    return taken


def churn(source: Source, fan: Any, workers: int) -> int:
    """Hands frames to all workers in turn until the test says something; how many were taken."""
    pushed = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for number in range(workers):
            pushed += push(fan, number, source.take())
    return pushed


def receiver(prefix: str, folder: str, path: str, workers: int, size: int = 256) -> Any:
    """The primary reads a capture for ever and hands frames to workers, as it is told."""
    shared(prefix, folder, 0)
    port = dpdk.open_port(f"net_pcap0,rx_pcap={path}", shared=True, budget=4096, descriptors=256)
    source = port.source()
    fan = dpdk.create_fan("flows", workers, size=size)
    say("ready")
    for word in words():
        verb, *numbers = word.split()
        if verb == "close":
            break
        if verb == "push":
            burst = source.take(int(numbers[1]))
            say([len(burst), push(fan, int(numbers[0]), burst)])
        elif verb == "churn":  # until the test has done with the workers
            say(churn(source, fan, workers))
        elif verb == "recover":
            say(fan.recover(int(numbers[0])))
        elif verb == "look":
            say([fan.drain(), port.in_use(), [fan.waiting(w) for w in range(workers)]])
    outstanding = source.stats().outstanding
    fan.close()
    return [outstanding, *close_all(port)]


def worker(prefix: str, folder: str, lcore: int, number: int) -> Any:
    """Takes frames from its ring, holds and releases them, as it is told."""
    join(prefix, folder, lcore)
    source = dpdk.fan_source("flows", number)
    say("ready")
    held_frames: list[HeldFrame] = []
    for word in words():
        verb, *numbers = word.split()
        if verb == "close":
            break
        if verb == "take":
            held_frames += take_all(source, int(numbers[0]))
            say(digest([frame.raw for frame in held_frames]))
        elif verb == "hold":  # another hold on each, and the first one let go
            twice = [frame.retain() for frame in held_frames]
            for frame in held_frames:
                frame.release()
            held_frames = twice
            say(source.stats().outstanding)
        elif verb == "release":
            for frame in held_frames:
                frame.release()
            held_frames = []
            say(source.stats().outstanding)
    source.close()


def busy_worker(prefix: str, folder: str, lcore: int, number: int) -> None:
    """Takes frames and gives them back, some at once and some later, until it is killed."""
    join(prefix, folder, lcore)
    source = dpdk.fan_source("flows", number)
    say("ready")
    kept: list[HeldFrame] = []
    while True:
        for frame in source.take():
            kept.append(frame.retain())
            frame.release()
        while len(kept) > 50:
            kept.pop(len(kept) // 2).release()
