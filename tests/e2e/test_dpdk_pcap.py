"""Captures through DPDK's net_pcap: what comes is what the project's own reader reads."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from dpdk_kit import SceneError, act, needs_dpdk

pytestmark = needs_dpdk

CAPTURES = Path(__file__).parents[1] / "captures"
#: With microseconds and Ethernet: net_pcap knows neither more precise times nor link types.
NAMES = ["http_demo", "http_v4_loss", "ssh", "resets", "midstream"]


def pcap(*frames: bytes) -> bytes:
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for i, data in enumerate(frames):
        records.append(struct.pack("<IIII", 1000, i, len(data), len(data)) + data)
    return b"".join(records)


@pytest.mark.parametrize("name", NAMES)
def test_capture_by_net_pcap_gives_what_the_own_reader_gives(name):
    path = str(CAPTURES / f"{name}.pcap")
    scene = act("replay", path=path)
    assert scene["frames"] == act("own_reader", path=path)
    assert scene["result"] == -1, "AIO_END"
    assert scene["stats"]["outstanding"] == scene["stats"]["dropped_nic"] == 0
    assert scene["received"] == scene["stats"]["frames"] == scene["frames"][0]
    assert (scene["in_use"], scene["missing"]) == (0, 0)
    assert not scene["live"]


@pytest.mark.parametrize("burst", [1, 7])
def test_capture_in_other_bursts_gives_the_same(burst):
    path = str(CAPTURES / "http_demo.pcap")
    assert act("replay", path=path, burst=burst)["frames"] == act("own_reader", path=path)


@pytest.mark.parametrize("room", [64, 300])
def test_frames_longer_than_an_mbuf_come_as_chains_with_their_head_in_one_piece(room, tmp_path):
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap(*(bytes(i % 256 for i in range(n)) for n in range(14, 9000, 97))))
    scene = act("replay", path=str(path), room=room)
    assert scene["frames"] == act("own_reader", path=str(path))
    assert (scene["in_use"], scene["missing"]) == (0, 0)
    pieces = act("chains", path=str(path), room=room)
    assert max(len(lengths) for lengths in pieces) > 8000 // (room + 128), "no chains came"
    assert all(lengths[0] >= min(sum(lengths), 256) for lengths in pieces)


def test_capture_without_frames_ends(tmp_path):
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap())
    scene = act("replay", path=str(path))
    assert scene["frames"][:2] == [0, 0]
    assert scene["result"] == -1


def test_capture_cut_off_ends_as_cut(tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(bytes(60), bytes(60))[:-5])
    with pytest.raises(SceneError, match="SourceError: the capture stops inside a record"):
        act("replay", path=str(path))


def test_capture_larger_than_the_pool_comes_whole(tmp_path):
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap(*(i.to_bytes(4, "big") * 16 for i in range(30_000))))
    scene = act("replay", path=str(path))
    assert scene["frames"] == act("own_reader", path=str(path))


def test_frames_held_at_closing_go_back():
    scene = act("hold_and_close", path=str(CAPTURES / "http_demo.pcap"))
    assert scene == {"outstanding": 10, "in_use": 8, "missing": 0}


def test_holding_beyond_the_budget_is_refused_and_the_pool_does_not_starve():
    scene = act("hold_too_many", path=str(CAPTURES / "http_demo.pcap"), budget=100)
    assert scene["refused"] == "the budget of 100 held mbufs is used up"
    assert 100 <= scene["held"] <= 164
    assert scene["dropped_pool"] > 0
    assert scene["dropped_nic"] == 0
    assert scene["all"] == 341
    assert scene["missing"] == 0


def test_frames_that_find_no_mbuf_are_counted_and_the_capture_goes_on_to_its_end(tmp_path):
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap(*(bytes(60) for _ in range(3000))))
    scene = act("starve", path=str(path))
    assert scene["came"] == scene["mbufs"] > 500
    assert scene["sum"] == 3000
    assert scene["no_memory"] > 0
    assert scene["missing"] == 0


def test_infinite_capture_never_ends_and_is_live():
    scene = act("infinite", path=str(CAPTURES / "http_demo.pcap"), frames=10_000)
    assert scene["live"]
    assert scene["frames"] >= 10_000
    assert scene["missing"] == 0


def test_two_captures_are_two_queues_and_one_source_reads_both():
    names = ["http_demo", "ssh"]
    paths = [str(CAPTURES / f"{name}.pcap") for name in names]
    alone = [act("own_reader", path=path) for path in paths]
    scene = act("two_queues", paths=paths)
    assert scene["apart"] == alone
    assert scene["ports"] == [frames[0] for frames in alone]
    assert scene["missing"] == 0
    assert scene["rss"] == "unknown"


def test_engine_on_net_pcap_finds_the_flows_of_the_file():
    path = str(CAPTURES / "http_demo.pcap")
    by_file, by_dpdk = act("flows", path=path), act("flows", path=path, dpdk_port=True)
    assert len(by_file) > 10
    assert by_dpdk == by_file
