"""What goes wrong with DPDK is told in one line, with the cause and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1]))
import trees
from dpdk_kit import SceneError, act, needs_dpdk, needs_root

from aiomos._engine import dpdkconfig
from aiomos._engine.dpdkconfig import DpdkConfig, check_pci, device_name, full_device
from aiomos._engine.errors import ConfigError, SourceError

# ---- before DPDK is asked -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"huge": "perhaps"}, "huge is 'auto', 'yes' or 'no', not 'perhaps'"),
        ({"huge": "no", "shared": True}, "memory is shared in huge pages only"),
        ({"process": "secondary"}, "needs the file_prefix of its primary"),
        ({"process": "third"}, "'primary' or 'secondary', not 'third'"),
        ({"lcore": 128}, "lcore is 0 to 127, not 128"),
        ({"file_prefix": "a/b"}, "a name, not a path"),
    ],
)
def test_configuration_that_contradicts_itself_is_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        DpdkConfig(**values)


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("net_pcap0,rx_pcap=/A.pcap", "net_pcap0,rx_pcap=/A.pcap"),
        ("0000:03:00.0", "0000:03:00.0"),
        ("03:00.1", "0000:03:00.1"),
        ("0000:0A:00.0,class=eth", "0000:0a:00.0,class=eth"),
    ],
)
def test_devices_are_known_by_their_names(given, full):
    assert full_device(given) == full
    assert device_name(given) == full.split(",")[0]


@pytest.mark.parametrize("device", ["eth0", "", "3:00.0", "0000:03:00.9", "03:00.0x", "/dev/x"])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ConfigError, match="is no DPDK device: give a PCI address"):
        full_device(device)


@pytest.fixture
def pci(tmp_path, monkeypatch):
    """A bus with a NIC of the kernel's, one of VFIO's, one that works shared, and a disk."""
    monkeypatch.setattr(dpdkconfig, "_PCI_DEVICES", tmp_path)
    for number, (kind, driver) in enumerate(
        [
            ("0x020000", "ixgbe"),
            ("0x020000", "vfio-pci"),
            ("0x020000", "mlx5_core"),
            ("0x010000", ""),
        ]
    ):
        folder = tmp_path / f"0000:03:00.{number}"
        folder.mkdir()
        (folder / "class").write_text(kind + "\n")
        if driver:
            (tmp_path / driver).mkdir()
            (folder / "driver").symlink_to(tmp_path / driver)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (
            "03:00.0",
            r"in use by the kernel \(ixgbe\): .* dpdk-devbind.py --bind=vfio-pci 0000:03:00.0",
        ),
        ("03:00.3", "is no network device"),
        ("03:00.7", "there is no PCI device 0000:03:00.7"),
    ],
)
def test_nic_that_is_not_free_is_told_with_the_remedy(pci, device, says):
    with pytest.raises(SourceError, match=says):
        check_pci(device)
    with pytest.raises(SourceError, match=says):
        DpdkConfig(devices=[device]).effective()


@pytest.mark.parametrize("device", ["03:00.1", "03:00.2"])
def test_nic_that_is_free_passes(pci, device):
    check_pci(device)


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """A machine with 40 huge pages of 2 MiB, of which 30 are free, and no hugetlbfs."""
    return trees.point_dpdk_to(
        tmp_path, monkeypatch, total=40, free=30, mounts="tmpfs /tmp tmpfs rw 0 0"
    )


def test_too_few_huge_pages_are_told_with_the_command_that_reserves_them(pages):
    with pytest.raises(
        SourceError,
        match=r"60 MiB of huge pages are free, and huge='yes' needs 400: echo 210 > /proc/sys/vm/",
    ):
        DpdkConfig(huge="yes", memory_mib=400).effective()


def test_auto_takes_huge_pages_if_there_are_enough(pages):
    assert DpdkConfig(memory_mib=60).effective().huge == "yes"
    assert DpdkConfig(memory_mib=61).effective().huge == "no"
    assert DpdkConfig(huge="no", memory_mib=10).effective().huge == "no"
    without = DpdkConfig().effective()
    assert (without.huge, without.memory_mib) == ("no", 512)


def test_sharing_without_hugetlbfs_is_told_with_the_command_that_mounts_it(pages):
    with pytest.raises(SourceError, match="mount -t hugetlbfs nodev /dev/hugepages"):
        DpdkConfig(shared=True).effective()
    pages.write_text("nodev /mnt/huge hugetlbfs rw 0 0\n")
    assert DpdkConfig(shared=True).effective().huge == "yes"
    with pytest.raises(SourceError, match="none is mounted at /elsewhere: mkdir -p /elsewhere"):
        DpdkConfig(shared=True, huge_dir="/elsewhere").effective()


def test_what_was_left_open_is_decided_and_the_rest_kept(pages):
    given = DpdkConfig(huge="no", log_level="debug", lcore=3)
    decided = given.effective()
    assert decided.file_prefix.startswith("aiomos-")
    assert attrs.evolve(decided, file_prefix="", memory_mib=0) == given


def test_build_without_dpdk_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiomos._engine._dpdk", None)
    with pytest.raises(SourceError, match="without DPDK: apt install libdpdk-dev"):
        dpdkconfig.load()


@needs_dpdk
def test_process_that_needs_no_dpdk_loads_none():
    assert act("not_needed") == 0


# ---- what DPDK says --------------------------------------------------------------------------------


def error_of(scene, **arguments):
    with pytest.raises(SceneError) as caught:
        act(scene, **arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@needs_dpdk
@pytest.mark.parametrize(
    ("device", "options", "says"),
    [
        ("net_nosuch0", {}, "SourceError: net_nosuch0 cannot be opened: no such device"),
        ("net_pcap0,rx_pcap=/nonexistent", {}, "/nonexistent: No such file or directory"),
        ("net_pcap0,rx_pcap=/etc/passwd", {}, "unknown file format"),
        ("net_af_packet0,iface=nosuch", {}, "No such device"),
        (
            "net_ring0",
            {"queues": 17},
            "ConfigError: net_ring0 has 16 receive queues, not 17: ask for fewer",
        ),
        (
            "net_ring0",
            {"tx_queues": 20},
            "ConfigError: net_ring0 has 16 transmit queues, not 20: ask for fewer",
        ),
        ("net_ring0", {"queues": 0}, "ConfigError: queues: 1 to 1024, not 0"),
        ("net_ring0", {"room": 1}, "ConfigError: room: 64 to 65000, not 1"),
        ("net_ring0", {"budget": 10**6}, "SourceError: no memory for 100"),
        ("eth0", {}, "ConfigError: 'eth0' is no DPDK device"),
        ("ff:1f.7", {}, "SourceError: there is no PCI device 0000:ff:1f.7"),
    ],
)
def test_device_that_cannot_be_opened_is_told_in_one_line(device, options, says):
    assert says in error_of("open_badly", device=device, **options)


@needs_dpdk
@needs_root
def test_device_without_permission_is_told():
    assert act("open_as_nobody", device="net_null0") == 64
    assert "no permission (root, or CAP_NET_ADMIN" in error_of("open_as_nobody", device="net_tap0")


@needs_dpdk
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"huge": "no", "memory_mib": 10**7}, "not enough memory: lower memory_mib"),
        ({"huge": "no", "driver_path": "/nonexistent"}, "/nonexistent: cannot open shared object"),
    ],
)
def test_environment_that_does_not_start_is_told_in_one_line(config, says):
    text = error_of("start_badly", **config)
    assert text.startswith("SourceError: DPDK did not start: ")
    assert says in text


@needs_dpdk
def test_dpdk_starts_once_a_process_with_one_configuration():
    assert act("start_twice", second={})
    assert "ConfigError: DPDK starts once a process" in error_of(
        "start_twice", second={"memory_mib": 300}
    )


@needs_dpdk
def test_dpdk_that_was_shut_down_does_not_start_again():
    assert "ConfigError: DPDK was shut down" in error_of("open_again")
    assert "port net_null0 is open: close it" in error_of("shut_down_too_early")


@needs_dpdk
def test_device_open_already_is_refused():
    assert error_of("open_twice") == "ConfigError: net_null0 is open already"


@needs_dpdk
def test_closed_port_and_its_source_say_so():
    assert act("use_after_close") == [
        "net_null0/0: source is closed",
        *["net_null0: port is closed"] * 3,
    ]


@needs_dpdk
def test_port_that_nobody_has_any_more_goes_with_its_last_source():
    assert act("let_go") == [["net_null0"], []]


@needs_dpdk
def test_start_is_quiet_and_changes_no_affinity():
    affinity, huge, version, built = act("quiet_start")
    assert affinity
    assert huge == "no"
    assert version == built
    assert version.startswith("DPDK 2")
