"""AF_XDP: an interface's frames, taken away from the kernel."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    sum16,
    wait_until,
)

from aiomos._engine.errors import ConfigError, SourceError
from aiomos._engine.interface import XdpSource, open_interface, open_xdp
from aiomos._engine.source import RawFrame

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=str(obstacle()))

TWO = pytest.mark.parametrize("generic", [False, True], ids=["driver", "generic"])


@pytest.fixture
def lab() -> Iterator[Cable]:
    """The near end has no address: it is a port to which a switch mirrors."""
    with cable() as made:
        made.near.do("ip", "address", "flush", "dev", "t0")
        yield made


def take(lab: Cable, name: str = "t0", **options: int) -> XdpSource:
    with lab.near.entered():
        return open_xdp(name, **options)  # type: ignore[arg-type]


# ---- what is taken -------------------------------------------------------------------------------


@TWO
def test_peer_sends_frames_are_taken_and_the_kernel_has_none(lab: Cable, generic: bool) -> None:
    sent = numbered(500)
    with take(lab, generic=generic) as source, lab.raw() as peer:
        assert source.generic is generic
        for frame in sent:
            peer.send(frame)
        assert [frame.data for frame in everything(source)] == sent
        stats = source.stats()
        assert (stats.frames, stats.bytes) == (500, sum(map(len, sent)))
        assert (stats.dropped_kernel, stats.outstanding) == (0, 0)


def test_driver_takes_frames_before_any_tap(lab: Cable) -> None:
    with lab.tap() as tap, lab.raw() as peer:
        with take(lab) as source:
            peer.send(ethernet(b"taken".ljust(60)))
            assert len(everything(source)) == 1
            assert everything(tap) == []
        peer.send(ethernet(b"given".ljust(60)))
        assert [frame.data[14:19] for frame in everything(tap)] == [b"given"]


def test_killed_process_gives_the_interface_back(lab: Cable) -> None:
    program = (
        "import time\n"
        "from aiomos._engine.interface import open_xdp\n"
        "source = open_xdp('t0'); print('open', flush=True); time.sleep(1000)\n"
    )
    arguments = ["ip", "netns", "exec", lab.near.name, sys.executable, "-c", program]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    with process, lab.tap() as tap, lab.raw() as peer:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            with pytest.raises(SourceError, match="another XDP program has it"):
                take(lab)
            peer.send(ethernet(b"taken".ljust(60)))
            assert everything(tap) == []
        finally:
            process.kill()
            process.wait()
        take(lab).close()
        peer.send(ethernet(b"given".ljust(60)))
        assert [frame.data[14:19] for frame in everything(tap)] == [b"given"]


def test_several_queues_are_several_sources(lab: Cable) -> None:
    many = ("type", "veth", "peer", "name", "q1", "numrxqueues", "2", "numtxqueues", "2")
    lab.link("add", "q0", "numrxqueues", "2", "numtxqueues", "2", *many)
    for name in ("q0", "q1"):
        lab.link("set", name, "up")
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(take(lab, "q0", queue=i)) for i in range(2)]
        sender = stack.enter_context(lab.tap("q1", transmit=True))
        peer = stack.enter_context(lab.raw())
        with lab.tap(direction="in") as tap:
            for frame in numbered(50):
                peer.send(frame)
            held = tap.take()
            assert sender.transmit(0, held) == 50
            for frame in held:
                frame.release()
        seen = [frame.data for source in sources for frame in everything(source)]
        assert sorted(seen) == sorted(numbered(50))
        with pytest.raises(SourceError, match="has an AF_XDP socket already"):
            take(lab, "q0", queue=1)


# ---- what is lost, and what is kept --------------------------------------------------------------


@TWO
def test_ring_too_small_received_and_dropped_are_what_was_sent(lab: Cable, generic: bool) -> None:
    with take(lab, ring_bytes=1 << 16, generic=generic) as source, lab.raw() as peer:
        for frame in numbered(1000):
            peer.send(frame)
        seen = len(everything(source))
        for frame in numbered(20):
            peer.send(frame)
        seen += len(everything(source))
        assert seen >= 84
        assert seen + source.stats().dropped_kernel == 1020


def test_frames_kept_beyond_half_are_copies_and_the_kernel_goes_on(lab: Cable) -> None:
    sent = numbered(300)
    kept = []
    with take(lab, ring_bytes=1 << 18) as source, lab.raw() as peer:
        for frame in sent:
            peer.send(frame)
            ready(source, 30)
            (held,) = source.take()
            kept.append(held.retain())
            held.release()
        assert [frame.data for frame in kept] == sent
        random.Random(1).shuffle(kept)
        for frame in kept:
            frame.release()
        assert source.stats().outstanding == 0
        assert source.stats().dropped_kernel == 0


def test_budget_of_copies_used_up_is_an_error_and_counted(lab: Cable) -> None:
    with take(lab, ring_bytes=1 << 17, retain_budget=4096) as source, lab.raw() as peer:
        kept = []
        with pytest.raises(SourceError, match="budget"):
            for frame in numbered(64):
                peer.send(frame)
                ready(source, 30)
                (held,) = source.take()
                kept.append(held)
                kept.append(held.retain())
        assert source.stats().dropped_pool == 1
        assert len(kept) >= 64
        for frame in kept:
            frame.release()
        assert source.stats().outstanding == 0


def test_closed_with_frames_out_nothing_breaks(lab: Cable) -> None:
    source = take(lab)
    with lab.raw() as peer:
        for frame in numbered(10):
            peer.send(frame)
    held = source.take()
    held[0].retain()
    source.close()
    assert source.stats().outstanding == 11


# ---- sending -------------------------------------------------------------------------------------


@TWO
def test_sent_frames_arrive_more_of_them_than_there_is_room_for(lab: Cable, generic: bool) -> None:
    with take(lab, generic=generic) as source, lab.raw() as peer, lab.far.entered():
        with open_interface("p0", direction="in") as there:
            arrived: list[RawFrame] = []
            for frame in numbered(1000):
                peer.send(frame)
                ready(source, 30)
                (held,) = source.take()
                wait_until(lambda held=held: source.transmit(0, [held]))
                held.release()
            arrived = frames_until(there, lambda frames: len(frames) == 1000)
    assert [frame.data for frame in arrived] == numbered(1000)


def test_unfilled_checksums_are_filled_in(lab: Cable) -> None:
    lab.link("add", "x0", "type", "veth", "peer", "name", "x1")
    for name in ("x0", "x1"):
        lab.link("set", name, "up")
    lab.address()
    lab.offloads(on=True)
    with lab.tap(direction="out") as tap, take(lab, "x0") as out, lab.tap("x1") as there:
        send_stream(lab, b"x" * 1000, 7401).join()
        held = tap.take()
        assert {frame.checksums[1] for frame in held} == {3}
        assert out.transmit(0, held) == len(held)
        for frame in held:
            frame.release()
        seen = frames_until(there, lambda frames: len(frames) == len(held))
    assert all(sum16(frame.data) == 0xFFFF for frame in seen)
    assert stream_of(seen, 7401) == b"x" * 1000


# ---- a mirror port -------------------------------------------------------------------------------


@contextlib.contextmanager
def mirrored(lab: Cable, *, fill: bool) -> Iterator[XdpSource]:
    """All that passes t0 goes to a port besides; fill: complete, as it would on a wire."""
    lab.link("add", "m0", "type", "veth", "peer", "name", "m1")
    for name in ("m0", "m1"):
        lab.link("set", name, "up")
    words = ["off" if fill else "on"]
    lab.near.do("ethtool", "-K", "m0", "tx", *words, "tso", *words, "gso", *words)
    lab.near.do("tc", "qdisc", "replace", "dev", "m0", "root", "pfifo", "limit", "10000")
    rules = "".join(
        f"chain {hook} {{ type filter hook {hook} device t0 priority 0; dup to m0; }}\n"
        for hook in ("ingress", "egress")
    )
    lab.near.do("nft", f"table netdev mirror {{ {rules} }}")
    with take(lab, "m1") as source:
        yield source


def sent_by(lab: Cable, name: str) -> tuple[int, int]:
    """Frames that an interface of the near end sent, and those it dropped instead."""
    command = ["ip", "-n", lab.near.name, "-j", "-s", "link", "show", name]
    answer = subprocess.run(command, capture_output=True, check=True)
    sent = json.loads(answer.stdout)[0]["stats64"]["tx"]
    return sent["packets"], sent["dropped"]


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
@pytest.mark.parametrize("fill", [True, False])
def test_mirror_of_large_frames_is_whole_in_frames_of_the_wire(lab: Cable, fill: bool) -> None:
    """The kernel cuts what is too large for AF_XDP before it comes to the port."""
    lab.address()
    lab.offloads(on=True)
    data = random.Random(3).randbytes(4 << 20)
    with mirrored(lab, fill=fill) as source:
        transfer = send_stream(lab, data, 7501)
        seen = frames_until(source, lambda frames: not transfer.is_alive() and not ready(source))
        seen += everything(source)
        assert source.stats().dropped_kernel == 0
        passed, lost = sent_by(lab, "m0")
    assert len(seen) == passed
    assert max(len(frame.data) for frame in seen) == 1514
    assert stream_of(seen, 7501) == data or lost > 0, "what the mirror itself lost, it counted"
    back = [frame for frame in seen if frame.data[34:36] == (7501).to_bytes(2, "big")]
    assert back, "the other direction is there too"
    right = sum(sum16(frame.data) == 0xFFFF for frame in seen)
    assert right == len(seen) if fill else right < len(seen) / 10


# ---- the link ------------------------------------------------------------------------------------


def test_link_lost_and_back_is_counted_and_reading_goes_on(lab: Cable) -> None:
    with take(lab) as source, lab.raw() as peer:
        lab.link("set", "t0", "down")
        wait_until(lambda: burst(source) == [] and not source.link_up)
        lab.link("set", "t0", "up")
        wait_until(lambda: burst(source) == [] and source.link_up)
        assert source.link_losses == 1
        peer.send(ethernet(b"after".ljust(60)))
        assert next_frame(source).data[14:19] == b"after"


def test_interface_deleted_is_an_error(lab: Cable) -> None:
    with take(lab) as source, lab.raw() as peer:
        for _ in range(3):
            peer.send(ethernet(bytes(60)))
        came = frames_until(source, lambda frames: len(frames) == 3)
        lab.link("delete", "t0")
        assert len(came) == 3
        assert ready(source, 10)
        for _ in range(2):
            assert burst(source) == []
            assert source.result == -3
            assert source.message.startswith("interface t0 is gone")


# ---- opening -------------------------------------------------------------------------------------


def test_interface_with_an_address_is_refused_unless_forced(lab: Cable) -> None:
    lab.address()
    with pytest.raises(ConfigError, match=r"t0 has an address: .* cut it off; .*--force"):
        take(lab)
    take(lab, force=True).close()


def test_interface_with_the_default_route_is_refused_unless_forced(lab: Cable) -> None:
    lab.near.do("ip", "route", "add", "default", "dev", "t0")
    with pytest.raises(ConfigError, match="t0 has the default route"):
        take(lab)
    take(lab, force=True).close()


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("ghost0", {}, SourceError, "no such interface; there are"),
        ("lo", {"force": True}, ConfigError, "one Ethernet interface"),
        ("any", {}, ConfigError, "one Ethernet interface"),
        ("t0", {"queue": 7}, SourceError, "no such queue, see ethtool -l"),
        ("t0", {"queue": 256}, ConfigError, "queues go to 255"),
        ("t0", {"ring_bytes": 1 << 40}, ConfigError, "MiB at the most"),
    ],
)
def test_what_cannot_be_taken_is_refused(
    lab: Cable, name: str, options: dict[str, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        take(lab, name, **options)


def test_no_permission_error_says_what_gives_it(lab: Cable) -> None:
    program = (
        "import os\n"
        "from aiomos._engine.interface import open_xdp\n"
        "os.setuid(65534)\n"
        "try: open_xdp('t0')\n"
        "except OSError as error: print(error)\n"
    )
    answer = subprocess.run(
        ["ip", "netns", "exec", lab.near.name, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run as root" in answer.stdout
    assert "cap_bpf" in answer.stdout
