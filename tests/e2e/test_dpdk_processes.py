"""Primary and secondary processes: queues of one device, and frames handed over shared rings."""

from __future__ import annotations

import os
import random
import struct
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from dpdk_kit import Actor, SceneError, act, huge_pages, needs_dpdk

pytestmark = needs_dpdk

N = 100
KILLS = int(os.environ.get("AIOMOS_KILLS", "3"))


@pytest.fixture
def place(tmp_path):
    """What processes of one primary have in common; skips where there are no huge pages."""
    folder = tmp_path / "huge"
    folder.mkdir()
    with huge_pages(folder):
        yield {"prefix": f"aiomos-test-{os.getpid()}", "folder": str(folder)}


def numbers(first, n):
    return [i.to_bytes(4, "big") * 20 for i in range(first, first + n)]


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "numbers.pcap"
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    records += [
        struct.pack("<IIII", 1000, i, 80, 80) + data for i, data in enumerate(numbers(0, 5000))
    ]
    path.write_bytes(b"".join(records))
    return path


def test_each_process_reads_its_queue_and_nothing_is_lost(place):
    with Actor("primary_of_queues", **place) as primary:
        primary.hear()
        assert list(Path(place["folder"]).iterdir())
        with (
            Actor("secondary_of_queue", lcore=1, queue=0, n=N, **place) as one,
            Actor("secondary_of_queue", lcore=2, queue=1, n=N, **place) as two,
        ):
            assert one.hear() is True
            assert two.hear() is True
            assert primary.ask("in_use") == [N // 2, N // 2]
            assert one.ask() == 0
            assert two.ask() == 0
        assert primary.ask("in_use") == [0, 0]
        assert primary.ask("close") == [0]
        primary.process.wait()
    assert not list(Path(place["folder"]).iterdir()), "huge pages are left"


def test_frames_of_a_killed_process_are_found_and_its_successor_goes_on(place):
    with Actor("primary_of_queues", **place) as primary:
        primary.hear()
        for _ in range(3):
            with Actor("secondary_of_queue", lcore=1, queue=1, n=N, **place) as doomed:
                doomed.hear()
                doomed.kill()
            assert primary.ask("in_use") == [0, N // 2]
            assert primary.ask("recover 1") == N // 2
            assert primary.ask("in_use") == [0, 0]
        with Actor("secondary_of_queue", lcore=1, queue=1, n=N, **place) as heir:
            assert heir.hear() is True
            assert heir.ask() == 0
        assert primary.ask("close") == [0]


def test_secondary_asking_for_a_port_that_is_not_open_is_told(place):
    with Actor("primary_of_queues", **place) as primary:
        primary.hear()
        with pytest.raises(SceneError, match="SourceError: the primary has no port net_ring7 open"):
            act("stranger", **place)
        assert primary.ask("close") == [0]


def test_secondary_without_its_primary_is_told(place):
    with pytest.raises(SceneError, match="SourceError: DPDK did not start: is its primary running"):
        act("stranger", **place)


# ---- rings to workers ------------------------------------------------------------------------------


def test_frames_reach_their_workers_as_they_were_and_come_back(place, capture):
    own = act("part_of", path=str(capture), first=0, n=90)
    with Actor("receiver", path=str(capture), workers=2, **place) as receiver:
        receiver.hear()
        with (
            Actor("worker", lcore=1, number=0, **place) as one,
            Actor("worker", lcore=2, number=1, **place) as two,
        ):
            assert one.hear() == two.hear() == "ready"
            assert receiver.ask("push 0 60") == [60, 60]
            assert receiver.ask("push 0 30") == [30, 30]
            assert receiver.ask("push 1 64") == [64, 64]
            assert receiver.ask("look") == [0, 154, [90, 64]]
            assert one.ask("take 90") == own, "contents and times"
            assert two.ask("take 64")[0] == 64
            assert one.ask("hold") == 90
            assert two.ask("release") == 0
            assert receiver.ask("look") == [64, 90, [0, 0]]
            assert one.ask("release") == 0
            assert receiver.ask("look") == [90, 0, [0, 0]]
            for actor in (one, two):
                actor.ask("close")
        assert receiver.ask("close") == [0, 0]


def test_ring_that_is_full_takes_no_more_and_the_rest_stays_the_receivers(place, capture):
    with Actor("receiver", path=str(capture), workers=1, size=128, **place) as receiver:
        receiver.hear()
        pushed = [receiver.ask("push 0 64")[1] for _ in range(3)]
        assert pushed == [64, 63, 0], "a ring of 128 holds 127"
        assert receiver.ask("look") == [0, 127, [127]]
        assert receiver.ask("close") == [0, 0], "what waits in the ring is freed with it"


def test_frames_of_a_killed_worker_are_found_and_those_that_wait_reach_its_successor(
    place, capture
):
    with Actor("receiver", path=str(capture), workers=2, **place) as receiver:
        receiver.hear()
        with Actor("worker", lcore=2, number=1, **place) as other:
            other.hear()
            receiver.ask("push 1 40")
            other.ask("take 40")
            for _ in range(3):
                receiver.ask("push 0 50")
                with Actor("worker", lcore=1, number=0, **place) as doomed:
                    doomed.hear()
                    doomed.ask("take 30")
                    doomed.ask("hold")
                    doomed.kill()
                assert receiver.ask("recover 0") == 30
                assert receiver.ask("look") == [0, 60, [20, 0]]
                with Actor("worker", lcore=1, number=0, **place) as heir:
                    heir.hear()
                    assert heir.ask("take 20")[0] == 20
                    assert heir.ask("release") == 0
                    heir.ask("close")
                assert receiver.ask("look") == [20, 40, [0, 0]]
            assert other.ask("release") == 0
            other.ask("close")
        assert receiver.ask("look") == [40, 0, [0, 0]]
        assert receiver.ask("close") == [0, 0]


def test_workers_killed_at_any_moment_lose_no_frame_and_stop_nobody(place, capture):
    loop = f"{capture},infinite_rx=1"
    with Actor("receiver", path=loop, workers=2, **place) as receiver:
        receiver.hear()
        with Actor("busy_worker", lcore=2, number=1, **place) as other:
            other.hear()
            for round in range(KILLS):
                with Actor("busy_worker", lcore=1, number=0, **place) as doomed:
                    doomed.hear()
                    receiver.tell("churn")
                    time.sleep(0.05 + 0.01 * random.Random(round).random())
                    doomed.kill()
                    assert receiver.ask("recover 0") > 0, "frames pushed while it died"
                    assert receiver.hear() > 0, "frames it held"
            other.kill()
        for worker in range(2):
            receiver.ask(f"recover {worker}")
        assert receiver.ask("close") == [0, 0]
