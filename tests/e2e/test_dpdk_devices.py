"""Frames sent through DPDK's virtual devices come back as they were, and none is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from dpdk_kit import Actor, act, huge_pages, needs_dpdk, needs_root
from kit import LOOPS, both_tasks

pytestmark = needs_dpdk


@pytest.mark.parametrize(
    ("room", "length"), [(2048, 100), (100, 8000)], ids=["one mbuf a frame", "chains"]
)
def test_frames_sent_into_a_ring_come_back_and_back_again(room, length):
    n = 1000 if length == 100 else 40
    scene = act("ring_loop", n=n, room=room, length=length)
    assert scene["same"] == [True, True]
    assert scene["ports"] == [0]
    assert scene["transmitted"] == 2 * n
    assert scene["outstanding"] == n, "half of those that came first, half of the others"
    assert scene["in_use"] >= n
    assert scene["missing"] == [0]


def test_ring_that_is_full_takes_what_it_can_and_the_rest_stays_the_callers():
    scene = act("ring_full", n=2000)
    assert 0 < scene["taken"] < 2000
    assert scene["right"]
    assert scene["missing"] == [0]


def test_stripped_vlan_tags_are_put_back_when_a_frame_is_sent():
    assert act("ring_vlan") == {"right": True, "missing": [0]}


def test_source_of_two_ports_forwards_without_copying():
    scene = act("forward", n=500)
    assert (scene["came_by"], scene["went_by"]) == ([0], [1])
    assert scene["right"]
    assert scene["copies"] == 0
    assert scene["missing"] == [0, 0]


def test_null_device_gives_and_takes_on_every_queue():
    scene = act("null_device", queues=4)
    assert scene["queues"] == 4
    assert scene["driver"] == "net_null"
    assert scene["reta"] > 0
    assert scene["rss"] == "unknown", "it claims RSS and has none"
    assert scene["lengths"] == [80]
    assert scene["sent"] == 10
    assert scene["xstats"] == scene["counters"] == 4 * 64
    assert scene["second"] == "queue 0 of net_null0 has a source already"
    assert (scene["ports"], scene["ports_after"]) == (["net_null0"], [])
    assert scene["missing"] == [0]


@pytest.mark.parametrize(("length", "room"), [(100, 2048), (1400, 256)])
def test_two_processes_talk_over_memif(tmp_path, length, room):
    path, n = str(tmp_path / "memif.sock"), 500
    with Actor("memif_server", path=path, n=n, room=room) as server:
        assert server.hear() is False, "nobody is connected"
        client = act("memif_client", path=path, n=n, length=length, room=room)
        assert client == {"right": True, "missing": [0]}
        assert server.hear()[0] is True
        last = server.ask()
    assert last["stats"]["frames"] == last["stats"]["transmitted"] == n
    assert last["stats"]["dropped_nic"] == 0
    assert last["missing"] == [0]


@needs_root
@pytest.mark.parametrize(
    ("length", "room", "pieces"), [(56, 2048, 1), (1400, 512, 3), (1400, 128, 6)]
)
def test_kernel_talks_over_a_tap(length, room, pieces):
    scene = act("tap_talk", n=20, length=length, room=room)
    assert (scene["datagrams"], scene["echoed"]) == (20, 20)
    assert scene["pieces"] >= pieces
    assert (scene["outstanding"], scene["dropped"], scene["missing"]) == (0, 0, [0])


@pytest.mark.parametrize("busy_poll", [False, True], ids=["polls", "busy"])
@pytest.mark.parametrize("loop", LOOPS)
@both_tasks
def test_run_on_a_device_without_a_descriptor_sees_frames_and_time_and_stops(
    loop, tasks, busy_poll
):
    scene = act("live_without_descriptor", loop=loop, tasks=tasks, busy_poll=busy_poll)
    assert scene["filenos"] == [-1]
    assert scene["seen"] == ["one", "wait", "after", "two", "SHUTDOWN", "lingered"]
    assert scene["frames"] == [6, 6, 0]
    assert scene["missing"] == [0]


@needs_root
@pytest.mark.parametrize("ports", [1, 2])
def test_tap_has_a_descriptor_that_wakes_and_several_have_one_together(ports):
    scene = act("tap_sleep", ports=ports)
    assert scene == {
        "interrupts": True,
        "quiet": [True, True],
        "awake": True,
        "missing": [0] * ports,
    }


@needs_root
def test_tap_whose_link_goes_and_comes_back_goes_on():
    scene = act("tap_link")
    assert scene == {"states": [True, False, True], "came": True, "missing": [0]}


def test_virtio_user_and_vhost_talk(tmp_path):
    path, n = str(tmp_path / "vhost.sock"), 100
    (tmp_path / "huge").mkdir()
    with huge_pages(tmp_path / "huge"), Actor("vhost_server", path=path, n=n) as server:
        assert server.hear() == "ready"
        assert act("virtio_user", path=path, n=n) == {"right": True, "missing": [0]}
        assert server.hear() is True
        assert server.ask() == [0]


@needs_root
@pytest.mark.parametrize("device", ["net_af_packet0,iface=aiodpdk0", "net_af_xdp0,iface=aiodpdk0"])
def test_drivers_on_kernel_interfaces_carry_frames(device):
    scene = act("on_veth", device=device, vlan=False)
    assert scene == {"come": [True, True], "back": True, "missing": [0]}
