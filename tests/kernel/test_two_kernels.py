"""Two Linux kernels talk over a bad wire: what each application received is what aiomos reads
on the tap in the middle of it, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from parties import Meeting, Party, invent, meet, settled
from reading import FULL, Seen, Side, read
from tapwire import Half, TapWire, tapped

sys.path.append(str(Path(__file__).parents[1] / "captures"))
from lab.netns import Lab, laboratory

import aiomos

CONNECTIONS = 100 if FULL else 10  # in each of the weathers below
SEED = 20261123


AIR = Half()


@dataclass(frozen=True)
class Weather:
    """What happens to frames between the client and the tap, and between the tap and the server."""

    near: Half = AIR
    far: Half = AIR
    offloads: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)

    @property
    def faithful(self) -> bool:
        """Whether all that the tap saw arrived, in that order."""
        return all(half.lose == half.hold == 0 for half in (self.near, self.far))


BAD = Half(lose=0.03, double=0.02, hold=0.1)
POOR = {"tcp_sack": "0", "tcp_timestamps": "0", "tcp_window_scaling": "0"}
WEATHERS = {
    "clear": Weather(),
    "super-packets": Weather(offloads=True),
    "doubled": Weather(near=Half(double=0.1), far=Half(double=0.1)),
    "loss-near": Weather(near=BAD),
    "loss-far": Weather(far=BAD),
    "loss-both": Weather(near=BAD, far=BAD),
    "loss-of-super-packets": Weather(near=BAD, far=BAD, offloads=True),
    "plain-tcp": Weather(near=BAD, far=BAD, sysctls=POOR),
    "shuffled": Weather(near=Half(hold=0.5, held=(0, 0.01)), far=Half(hold=0.5, held=(0, 0.01))),
}


async def record(lab: Lab, weather: Weather, meetings: list[Meeting], seed: int) -> TapWire:
    async with tapped(lab.middle, (weather.near, weather.far), seed) as wire:
        async with asyncio.timeout(300):
            await meet(lab, meetings)
            await settled(lab.client, lab.server)
        return wire


def hasten(lab: Lab, sysctls: dict[str, str]) -> None:
    """Retransmission after 20 ms in place of 200, where the kernel has the switch."""
    for space in (lab.client, lab.server):
        with contextlib.suppress(OSError):
            space.sysctl("net.ipv4.tcp_rto_min_us", "20000")
        for name, value in sysctls.items():
            space.sysctl(f"net.ipv4.{name}", value)


def written(wire: TapWire, path: Path) -> Path:
    with aiomos.Writer(path, format="pcap-ns") as writer:
        for frame in wire.frames:
            writer.write(frame)
    return path


def up_to_gap(side: Side) -> bytes:
    """What was read before anything was missing."""
    return side.data[: side.gaps[0][0]] if side.gaps else side.data


def check_side(side: Side, speaker: Party, listener: Party, weather: Weather, orderly: bool):
    assert speaker.data.startswith(up_to_gap(side))
    assert up_to_gap(side).startswith(listener.got)
    if orderly:
        assert (side.data, side.gaps, side.complete) == (speaker.data, [], True)
        assert listener.got == speaker.data
    elif weather.faithful and listener.ended != "self" and not listener.slow:
        # (A slow listener's kernel may have refused what was within its window, for want of memory.)
        assert (side.data, side.gaps) == (listener.got, [])


def check(meeting: Meeting, seen: list[Seen], weather: Weather) -> None:
    (flow,) = seen
    check_side(flow.client, meeting.client, meeting.server, weather, meeting.orderly)
    check_side(flow.server, meeting.server, meeting.client, weather, meeting.orderly)
    leaving = {meeting.client.leaves, meeting.server.leaves}
    if meeting.orderly:
        assert flow.reason == "FIN"
    elif "aborts" in leaving:
        assert flow.reason == "RESET"
    else:
        assert flow.reason in ("FIN", "RESET")


@pytest.mark.parametrize("name", WEATHERS)
def test_two_kernels_applications_receive_what_the_tap_reads(name, tmp_path):
    weather = WEATHERS[name]
    meetings = [invent(number, SEED) for number in range(CONNECTIONS)]
    with laboratory(offloads=weather.offloads) as lab:
        hasten(lab, weather.sysctls)
        wire = asyncio.run(record(lab, weather, meetings, SEED))
    found = read(written(wire, tmp_path / f"{name}.pcap"))
    for meeting in meetings:
        print(name, SEED, meeting.number, meeting.client.leaves, meeting.server.leaves)
        check(meeting, found.pop(meeting.ports), weather)
    assert not found
    print("lost in front of the tap and behind it:", wire.lost)
    if FULL and weather.near.lose + weather.far.lose:
        assert all(wire.lost)
