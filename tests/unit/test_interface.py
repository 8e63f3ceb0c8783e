"""A kernel interface as a source: what is seen is what passed, and what is lost is counted."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

sys.path.append(str(Path(__file__).parents[1]))
from cable import (
    Cable,
    burst,
    cable,
    ethernet,
    everything,
    frames_until,
    next_frame,
    numbered,
    obstacle,
    ready,
    send_stream,
    stream_of,
    wait_until,
)
from lab.netns import Namespace

import aiomos
from aiomos._engine.errors import ConfigError, SourceError
from aiomos._engine.interface import InterfaceSource, open_interface
from aiomos._engine.rings import pump_source
from aiomos._metrics import WorkerStats, worker_stats

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=str(obstacle()))

IN, OUT = 1, 2
NOT_FILLED = 3
ETHERNET, SLL2 = 1, 276
TUNSETIFF = 0x400454CA


@pytest.fixture
def lab() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture
def tap(lab: Cable) -> Iterator[InterfaceSource]:
    with lab.tap() as source:
        yield source


# ---- what is seen --------------------------------------------------------------------------------


def test_tap_peer_sends_frames_are_the_bytes_it_sent(lab: Cable, tap: InterfaceSource) -> None:
    sent = numbered(500)
    before = time.time_ns()
    with lab.raw() as peer:
        for frame in sent:
            peer.send(frame)
    seen = everything(tap)
    assert [frame.data for frame in seen] == sent
    assert {frame.link_type for frame in seen} == {ETHERNET}
    assert {frame.direction for frame in seen} == {IN}
    assert [frame.wire_len for frame in seen] == [len(frame) for frame in sent]
    times = [frame.time_ns for frame in seen]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time_ns()
    assert tap.stats().frames == 500
    assert tap.stats().bytes == sum(map(len, sent))


def test_tap_own_host_sends_direction_is_out(lab: Cable, tap: InterfaceSource) -> None:
    with lab.raw("near") as own, lab.raw() as peer:
        own.send(ethernet(b"out" * 20))
        peer.send(ethernet(b"in." * 20))
    assert [(f.direction, f.data[14:17]) for f in everything(tap)] == [(OUT, b"out"), (IN, b"in.")]


@pytest.mark.parametrize(("direction", "content"), [("in", b"in."), ("out", b"out")])
def test_direction_given_only_that_is_seen(lab: Cable, direction: Any, content: bytes) -> None:
    with lab.tap(direction=direction) as source, lab.raw("near") as own, lab.raw() as peer:
        own.send(ethernet(b"out" * 20))
        peer.send(ethernet(b"in." * 20))
        assert [frame.data[14:17] for frame in everything(source)] == [content]


def test_snap_length_given_frames_are_cut_there(lab: Cable) -> None:
    with lab.tap(snap_len=64) as source, lab.raw() as peer:
        peer.send(ethernet(bytes(1000)))
        peer.send(ethernet(bytes(46)))
        seen = everything(source)
        assert [(len(f.data), f.wire_len) for f in seen] == [(64, 1014), (60, 60)]
        assert source.interface_stats().cut == 0


@pytest.mark.parametrize("offloads", [True, False])
def test_stream_sent_with_and_without_offloads_is_seen_whole(lab: Cable, offloads: bool) -> None:
    lab.offloads(on=offloads)
    data = random.Random(1).randbytes(8 << 20)
    with lab.tap() as source:
        transfer = send_stream(lab, data, 7001)
        seen = frames_until(source, lambda frames: not transfer.is_alive() and not ready(source))
        seen += everything(source)
        stats = source.interface_stats()
    assert (stats.dropped_kernel, stats.dropped_nic, stats.cut) == (0, 0, 0)
    assert all(len(frame.data) == frame.wire_len for frame in seen)
    assert stream_of(seen, 7001) == data
    largest = max(len(frame.data) for frame in seen)
    assert largest > 30_000 if offloads else largest <= 1514


def test_own_segments_with_offload_checksum_is_not_filled(lab: Cable) -> None:
    lab.offloads(on=True)
    with lab.tap(direction="out") as source:
        send_stream(lab, b"x", 7002).join()
        held = source.take()
        assert {frame.checksums[1] for frame in held} == {NOT_FILLED}
        for frame in held:
            frame.release()


def test_tag_on_the_wire_is_told_beside_the_frame(lab: Cable, tap: InterfaceSource) -> None:
    plain = ethernet(b"tagged" * 10)
    with lab.raw() as peer:
        peer.send(plain[:12] + bytes.fromhex("8100602a") + plain[12:])
    (frame,) = tap.take()
    assert (frame.vlan, frame.data) == ((0x602A,), plain)
    frame.release()


def test_any_sees_all_interfaces_with_a_header_that_says_which(lab: Cable) -> None:
    with lab.near.entered():
        numbers = {name: socket.if_nametoindex(name) for name in ("lo", "t0")}
        pinger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with lab.tap("any") as source, lab.raw() as peer, pinger:
        peer.send(ethernet(b"from the cable".ljust(60)))
        pinger.sendto(b"over the loopback", ("127.0.0.1", 9))
        seen = everything(source)
    assert {frame.link_type for frame in seen} == {SLL2}
    headers = [(frame.data[:2], int.from_bytes(frame.data[4:8], "big")) for frame in seen]
    assert headers[:2] == [(b"\x88\xb5", numbers["t0"]), (b"\x08\x00", numbers["lo"])]
    assert seen[0].data[20:34] == b"from the cable"
    assert seen[0].data[8:12] == bytes([0, 1, 0, 6])  # Ethernet, to us, six bytes of address
    assert seen[1].data[-17:] == b"over the loopback"
    assert all(frame.wire_len == len(frame.data) for frame in seen)


def test_loopback_frame_is_seen_once(lab: Cable) -> None:
    with lab.near.entered():
        receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with lab.tap("lo") as source, receiver, sender:
        receiver.bind(("127.0.0.1", 7003))
        for size in (10, 1000, 60_000):
            sender.sendto(bytes(size), ("127.0.0.1", 7003))
        assert [len(f.data) - 42 for f in everything(source)] == [10, 1000, 60_000]


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="needs /dev/net/tun")
def test_tunnel_device_without_link_layer_is_raw_ip(lab: Cable) -> None:
    ours, no_header = struct.pack("16sH", b"g0", 1 | 0x1000), b"\x45" + bytes(19) + b"inside"
    with lab.near.entered(), open("/dev/net/tun", "r+b", buffering=0) as device:
        fcntl.ioctl(device, TUNSETIFF, ours)
        lab.link("set", "g0", "up")
        with open_interface("g0") as source:
            device.write(no_header)
            (frame,) = everything(source)
    assert (frame.link_type, frame.data) == (101, no_header)


# ---- what is lost --------------------------------------------------------------------------------


def test_ring_too_small_received_and_dropped_are_what_was_sent(lab: Cable) -> None:
    with lab.tap(ring_bytes=1 << 16) as source, lab.raw() as peer:
        for frame in numbered(1000):
            peer.send(frame)
        seen = len(everything(source))
        for frame in numbered(20):
            peer.send(frame)
        seen += len(everything(source))
        stats = source.stats()
    assert stats.dropped_kernel > 0
    assert (stats.frames, seen + stats.dropped_kernel) == (seen, 1020)
    assert source.stats() == stats._replace(outstanding=0)


def test_copies_without_room_frames_are_cut_and_counted(lab: Cable) -> None:
    lab.offloads(on=True)
    data = random.Random(2).randbytes(4 << 20)
    with lab.tap(retain_budget=1 << 16) as source:
        transfer = send_stream(lab, data, 7004)
        seen = frames_until(source, lambda frames: not transfer.is_alive() and not ready(source))
        seen += everything(source)
        stats = source.interface_stats()
    short = [frame for frame in seen if len(frame.data) < frame.wire_len]
    assert len(short) == stats.cut > 0
    assert all(frame.data[12:14] == b"\x08\x00" for frame in short)
    assert stats.dropped_kernel == 0


@pytest.mark.parametrize("pumped", [False, True], ids=["", "receive pump"])
def test_cut_frames_stand_in_summary_and_statistics(lab: Cable, pumped: bool) -> None:
    lab.offloads(on=True)
    data = random.Random(2).randbytes(4 << 20)

    async def nothing(flow: aiomos.Flow) -> None:
        pass

    async def main(tap: InterfaceSource) -> tuple[int, WorkerStats, aiomos.Summary]:
        engine = aiomos.Engine(pump_source(tap) if pumped else tap)
        began = asyncio.Event()
        engine.on_start = began.set
        serving = asyncio.create_task(engine.serve(nothing))
        await began.wait()
        transfer = send_stream(lab, data, 7004)
        await asyncio.to_thread(transfer.join)
        while worker_stats(engine).cut == 0:
            await asyncio.sleep(0.01)
        engine.stop()
        summary = await serving
        return engine.source.stats().cut, worker_stats(engine), summary

    with lab.tap(retain_budget=1 << 16) as tap:
        cut, stats, summary = asyncio.run(main(tap))
    assert cut > 0
    assert (stats.cut, summary.cut, stats.unaccounted) == (cut, cut, 0)
    assert f"{cut} packets cut short: there was no memory to copy it whole" in str(summary)


# ---- holds ---------------------------------------------------------------------------------------


def test_frames_released_in_any_order_all_slots_come_back(lab: Cable) -> None:
    dice = random.Random(3)
    with lab.tap(ring_bytes=1 << 16) as source, lab.raw() as peer:
        for turn in range(50):
            sent = [ethernet(bytes([turn, i]) * 40) for i in range(20)]
            for frame in sent:
                peer.send(frame)
            held = source.take()
            assert [frame.data for frame in held] == sent
            dice.shuffle(held)
            for frame in held:
                frame.release()
        assert source.stats().dropped_kernel == 0
        assert source.stats().outstanding == 0


def test_retained_frame_outlives_its_slot(lab: Cable) -> None:
    with lab.tap(ring_bytes=1 << 16) as source, lab.raw() as peer:
        peer.send(ethernet(b"kept" * 20))
        (frame,) = source.take()
        kept = frame.retain()
        again = kept.retain()
        frame.release()
        for turn in range(20):
            for _ in range(20):
                peer.send(ethernet(bytes([turn]) * 80))
            everything(source)
        assert kept.data == again.data == ethernet(b"kept" * 20)
        kept.release()
        again.release()
        assert source.stats().outstanding == 0


def test_closed_with_frames_out_nothing_is_left(lab: Cable) -> None:
    source = lab.tap()
    with lab.raw() as peer:
        for _ in range(10):
            peer.send(ethernet(bytes(100)))
    held = source.take()
    held[0].retain()
    before = len(os.listdir("/proc/self/fd"))
    source.close()
    assert source.stats().outstanding == 11
    assert before - len(os.listdir("/proc/self/fd")) >= 3  # socket, page, what waits for both


# ---- the descriptor ------------------------------------------------------------------------------


def test_descriptor_is_readable_while_something_is_there(lab: Cable, tap: InterfaceSource) -> None:
    assert not ready(tap)
    with lab.raw() as peer:
        peer.send(ethernet(bytes(60)))
        assert ready(tap, 10)
        assert len(burst(tap)) == 1
        assert burst(tap) == []
        assert not ready(tap)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_loop_waits_on_it_through_a_lost_link(lab: Cable, new_loop: Any) -> None:
    async def main(source: InterfaceSource) -> list[bytes]:
        seen: list[bytes] = []
        loop = asyncio.get_running_loop()
        came = asyncio.Event()

        def readable() -> None:
            seen.extend(frame.data[14:18] for frame in burst(source))
            came.set()

        loop.add_reader(source.fileno(), readable)
        with lab.raw() as peer:
            peer.send(ethernet(b"one." * 20))
            await asyncio.wait_for(came.wait(), 30)
            lab.link("set", "t0", "down")
            await asyncio.sleep(0.1)
            lab.link("set", "t0", "up")
            while len(seen) < 2:
                came.clear()
                peer.send(ethernet(b"two." * 20))
                await asyncio.wait_for(came.wait(), 30)
        loop.remove_reader(source.fileno())
        return seen[:2]

    loop = new_loop()
    with lab.tap() as source:
        assert loop.run_until_complete(main(source)) == [b"one.", b"two."]
    loop.close()


# ---- the link ------------------------------------------------------------------------------------


def test_link_lost_and_back_is_counted_and_reading_goes_on(
    lab: Cable, tap: InterfaceSource
) -> None:
    with lab.raw() as peer:
        peer.send(ethernet(b"before".ljust(60)))
        lab.link("set", "t0", "down")
        assert next_frame(tap).data[14:20] == b"before"
        assert burst(tap) == []
        assert tap.interface_stats().link_losses == 1
        assert not tap.interface_stats().link_up
        lab.link("set", "t0", "up")
        assert burst(tap) == []
        wait_until(lambda: burst(tap) == [] and tap.interface_stats().link_up)
        peer.send(ethernet(b"after".ljust(60)))
        assert next_frame(tap).data[14:19] == b"after"
    assert tap.interface_stats().link_losses == 1


def test_carrier_lost_is_counted(lab: Cable, tap: InterfaceSource) -> None:
    lab.far.do("ip", "link", "set", "p0", "down")
    wait_until(lambda: burst(tap) == [] and not tap.interface_stats().link_up)
    lab.far.do("ip", "link", "set", "p0", "up")
    wait_until(lambda: burst(tap) == [] and tap.interface_stats().link_up)
    assert tap.interface_stats().link_losses == 1


def test_interface_deleted_what_came_is_read_then_it_is_an_error(
    lab: Cable, tap: InterfaceSource
) -> None:
    with lab.raw() as peer:
        for _ in range(3):
            peer.send(ethernet(bytes(60)))
    lab.link("delete", "t0")
    assert len(frames_until(tap, lambda frames: len(frames) == 3)) == 3
    assert ready(tap, 10)
    for _ in range(2):
        assert burst(tap) == []
        assert tap.result == -3
        assert tap.message.startswith("interface t0 is gone")


# ---- opening -------------------------------------------------------------------------------------


def test_interface_down_at_opening_is_a_warning(lab: Cable) -> None:
    lab.link("set", "t0", "down")
    with lab.tap() as source:
        assert len(source.warnings) == 1
        assert "t0 is down" in source.warnings[0]
        assert burst(source) == []
        lab.link("set", "t0", "up")
        with lab.raw() as peer:
            peer.send(ethernet(bytes(60)))
        assert len(next_frame(source).data) == 74


def test_unknown_interface_error_names_those_there_are(lab: Cable) -> None:
    with pytest.raises(SourceError, match=r"ghost0: no such interface; there are .*t0.* and any"):
        lab.tap("ghost0")


@pytest.mark.parametrize("options", [{"direction": "up"}, {"ring_bytes": 1 << 40}])
def test_impossible_options_are_refused(lab: Cable, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        lab.tap(**options)


def test_any_cannot_send(lab: Cable) -> None:
    with pytest.raises(ConfigError, match="read here, not sent"):
        lab.tap("any", transmit=True)


def test_no_permission_error_says_what_gives_it() -> None:
    program = (
        "import os; os.setuid(65534)\n"
        "from aiomos._engine.interface import open_interface\n"
        "try: open_interface('lo')\n"
        "except OSError as error: print(error.errno, error)\n"
    )
    preloaded = f"import aiomos._engine.interface\n{program}"
    answer = subprocess.run(
        [sys.executable, "-c", preloaded], capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("1 ")
    assert "run as root" in answer.stdout
    assert "setcap cap_net_raw,cap_net_admin+ep" in answer.stdout


def test_promiscuous_unless_told_otherwise(lab: Cable) -> None:
    def promiscuity(space: Namespace) -> str:
        answer = subprocess.run(
            ["ip", "-n", space.name, "-d", "link", "show", "t0"], capture_output=True, text=True
        )
        return answer.stdout.split("promiscuity ")[1].split()[0]

    with lab.tap():
        assert promiscuity(lab.near) == "1"
    with lab.tap(promiscuous=False):
        assert promiscuity(lab.near) == "0"
