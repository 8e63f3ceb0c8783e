"""Which way frames take from a DPDK device to several workers, and the reason that is given."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
import trees

from aiomos import _dpdkports, rss
from aiomos._engine.dpdkfacts import PortInfo
from aiomos._engine.errors import ConfigError, SourceError
from aiomos._launch import Launch


def port(**facts):
    values = dict.fromkeys(PortInfo._fields, 0) | {"name": "nic0", "rss": "key", "ends": False}
    return PortInfo(**(values | {"reta_size": 128} | facts))


@pytest.mark.parametrize("size", [64, 128, 256, 512])
@pytest.mark.parametrize("count", [2, 3, 4, 7, 128])
def test_workers_read_queues_where_table_and_workers_agree(size, count):
    """The device's table, as dpdk_rss.c fills it, against aiomos.rss."""
    table = [entry % rss.TABLE % count for entry in range(size)]
    agree = all(table[hash % size] == hash % rss.TABLE % count for hash in range(4096))
    assert (_dpdkports.why_not_direct(port(reta_size=size), count) is None) == agree


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"rss": "unknown"}, r"the hash of nic0 is not known .*unknown"),
        ({"rss": "symmetric"}, r"the hash of nic0 is not known .*symmetric\)"),
        ({"rss": "none"}, "the hash of nic0 is not known"),
        ({"ends": True}, "nic0 reads captures"),
        ({"reta_size": 64}, "the table of nic0 has 64 entries, not 128"),
    ],
)
def test_reason_for_a_distributor_is_given(facts, says):
    assert re.match(says, _dpdkports.why_not_direct(port(**facts), 3))


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """A machine with 256 MiB of huge pages, and a hugetlbfs."""
    return trees.point_dpdk_to(
        tmp_path, monkeypatch, total=128, free=128, mounts="nodev /mnt/huge hugetlbfs rw 0 0"
    )


def why_apart(device, count=2, huge="auto"):
    return _dpdkports.why_apart(Launch(app="app", dpdk=[device], huge=huge), count)


@pytest.mark.parametrize("device", ["net_tap0", "net_ring0", "net_pcap0,rx_pcap=a", "03:00.0"])
@pytest.mark.parametrize("huge", ["auto", "yes"])
def test_memory_is_shared_where_it_can_be(pages, device, huge):
    assert why_apart(device, huge=huge) is None


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("net_af_packet0,iface=eth0", "one process alone can have net_af_packet0"),
        ("net_pcap0,rx_pcap=a,infinite_rx=1", "one process alone can read net_pcap0 again"),
        ("net_pcap0,rx_pcap=" + 56 * "a", "net_pcap0 tells other processes 63 characters"),
    ],
)
@pytest.mark.parametrize("huge", ["auto", "yes"])
def test_driver_of_one_process_is_told(pages, device, says, huge):
    assert why_apart(device, huge=huge).startswith(says)


def test_too_few_pages_are_a_reason_and_an_error_where_they_were_asked_for(pages):
    says = "256 MiB of huge pages are free, and 60 workers need"
    assert why_apart("net_tap0", 60).startswith(says)
    with pytest.raises(SourceError, match=f"{says}.*echo [0-9]+ > /proc/sys/vm/nr_hugepages"):
        why_apart("net_tap0", 60, huge="yes")


def test_no_hugetlbfs_is_a_reason_and_an_error_where_pages_were_asked_for(pages):
    pages.write_text("")
    says = "memory is shared by way of a hugetlbfs, and none is mounted: mkdir -p"
    assert why_apart("net_tap0").startswith(says)
    with pytest.raises(SourceError, match=says):
        why_apart("net_tap0", huge="yes")


def test_more_processes_than_dpdk_can_number_are_told(pages):
    assert why_apart("net_tap0", 127) == "126 processes at most can share DPDK's memory"


def test_no_huge_pages_by_wish_and_what_is_no_device(pages):
    assert why_apart("net_tap0", huge="no") == "--huge no"
    with pytest.raises(ConfigError, match="'eth0' is no DPDK device"):
        why_apart("eth0")
