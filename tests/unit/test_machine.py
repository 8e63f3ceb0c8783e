"""Facts about machines that are not here, read from trees of /proc and /sys as they have them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from trees import I350, plant, plant_driver, plant_pages, plant_pci

from aiomos._machine import runs
from aiomos._machine_cpu import Clock, read_clock, read_cpus_of
from aiomos._machine_dpdk import build_command, read_dpdk
from aiomos._machine_files import format_cpus, kernel_has, parse_cpus
from aiomos._machine_memory import read_memory
from aiomos._machine_pci import read_pci, read_user_drivers
from aiomos._machine_rights import read_bounds, read_rights, read_surroundings

CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("0-1,4,6-7", [0, 1, 4, 6, 7]),
        ("(null)", []),
        ("2-x,5", [5]),
    ],
)
def test_list_of_cpus_is_read_as_the_kernel_writes_it(text: str, numbers: list[int]) -> None:
    assert parse_cpus(text) == frozenset(numbers)


@pytest.mark.parametrize("text", ["", "0", "0-3", "0-1,4,6-7"])
def test_list_of_cpus_is_written_as_the_kernel_does(text: str) -> None:
    assert format_cpus(parse_cpus(text)) == text


def test_machine_that_tells_nothing_has_nothing(tmp_path: Path) -> None:
    """An empty tree: every reader comes back, with nothing found."""
    cpus = read_cpus_of(tmp_path, allowed=frozenset({0}))
    assert (cpus.online, cpus.governors, cpus.siblings, cpus.quota) == (set(), set(), (), None)
    assert read_clock(tmp_path) == Clock("", ())
    memory = read_memory(tmp_path)
    assert (memory.pages, memory.mounts, memory.available) == ((), (), 0)
    assert read_pci(tmp_path) == ()
    drivers = read_user_drivers(tmp_path, "6.1")
    assert (drivers.loaded, drivers.modules, drivers.vfio, drivers.iommu) == (
        (),
        False,
        False,
        False,
    )
    found = read_dpdk(tmp_path)
    assert (found.version, found.headers, found.drivers) == ("", False, ())
    assert read_rights(tmp_path).held == frozenset()
    assert read_bounds(tmp_path).receive_buffer is None
    assert read_surroundings(tmp_path, "6.1").container == ""
    assert not runs("irqbalance", tmp_path)


# ---- processors --------------------------------------------------------------------------------


def test_processors_of_two_nodes_with_hyper_threads_are_told_apart(tmp_path: Path) -> None:
    plant(tmp_path, {f"{CPU}/online": "0-3", f"{CPU}/isolated": "2-3", f"{CPU}/nohz_full": "3"})
    for n in range(4):
        plant(tmp_path, {
            f"{CPU}/cpu{n}/topology/thread_siblings_list": "0,2" if n % 2 == 0 else "1,3",
            f"{CPU}/cpu{n}/cpufreq/scaling_governor": "powersave" if n else "performance",
        })  # fmt: skip
    for node, cpulist in ((0, "0,2"), (1, "1,3")):
        plant(tmp_path, {f"sys/devices/system/node/node{node}/cpulist": cpulist})

    found = read_cpus_of(tmp_path, allowed=frozenset({1, 2}))
    assert found.online == {0, 1, 2, 3}
    assert found.allowed == {1, 2}
    assert (found.isolated, found.tickless) == ({2, 3}, {3})
    assert found.siblings == ({0, 2}, {1, 3})
    assert found.nodes == ((0, {0, 2}), (1, {1, 3}))
    assert found.governors == {"powersave", "performance"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "400000 100000",
          "sys/fs/cgroup/a/b/cpu.max": "200000 100000"}, 2.0),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/d", "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us":
          "50000", "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us": "100000"}, 0.5),
        ({"proc/self/cgroup": "4:cpu:/d", "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "-1",
          "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000"}, None),
    ],
    ids=["v2 above", "v2 without", "v2 the tighter", "v1", "v1 without"],
)  # fmt: skip
def test_quota_of_control_group_is_the_tightest(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    plant(tmp_path, files)
    assert read_cpus_of(tmp_path, allowed=frozenset({0})).quota == quota


def test_clock_source_and_those_to_choose_from(tmp_path: Path) -> None:
    base = "sys/devices/system/clocksource/clocksource0"
    plant(tmp_path, {f"{base}/current_clocksource": "hpet",
                     f"{base}/available_clocksource": "hpet acpi_pm tsc"})  # fmt: skip
    assert read_clock(tmp_path) == Clock("hpet", ("hpet", "acpi_pm", "tsc"))


# ---- memory ------------------------------------------------------------------------------------


def test_huge_pages_of_two_nodes_and_two_sizes(tmp_path: Path) -> None:
    plant_pages(tmp_path, 0, 2048, 512, 100, "0-1")
    plant_pages(tmp_path, 1, 2048, 0, 0, "2-3")
    plant_pages(tmp_path, 1, 1048576, 2, 2, "2-3")
    plant(tmp_path, {"proc/meminfo": "MemAvailable: 1048576 kB\nHugepagesize:    2048 kB"})

    found = read_memory(tmp_path)
    assert [(h.size >> 20, h.node, h.total, h.free) for h in found.pages] == [
        (2, 0, 512, 100),
        (2, 1, 0, 0),
        (1024, 1, 2, 2),
    ]
    assert found.pages[1].path == (
        "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
    )
    assert found.available == 1 << 30


def test_huge_pages_where_the_kernel_knows_no_nodes(tmp_path: Path) -> None:
    base = "sys/kernel/mm/hugepages/hugepages-2048kB"
    plant(tmp_path, {f"{base}/nr_hugepages": "8", f"{base}/free_hugepages": "3"})
    (only,) = read_memory(tmp_path).pages
    assert (only.node, only.total, only.free) == (None, 8, 3)


def test_mounts_of_hugetlbfs_with_their_page_size(tmp_path: Path) -> None:
    (tmp_path / "dev/hugepages").mkdir(parents=True)
    plant(tmp_path, {
        "proc/meminfo": "Hugepagesize: 2048 kB",
        "proc/self/mounts": "sysfs /sys sysfs rw 0 0\n"
        "hugetlbfs /dev/hugepages hugetlbfs rw,relatime 0 0\n"
        "none /dev/huge1G hugetlbfs rw,pagesize=1024M 0 0",
    })  # fmt: skip
    found = [(m.path, m.size >> 20, m.writable) for m in read_memory(tmp_path).mounts]
    assert found == [("/dev/hugepages", 2, True), ("/dev/huge1G", 1024, False)]


# ---- PCI ---------------------------------------------------------------------------------------


def test_nic_bound_to_vfio_and_one_that_the_kernel_has(tmp_path: Path) -> None:
    plant_pci(tmp_path, "0000:03:00.0", I350, "vfio-pci", numa_node="1",
              iommu_group="->../../../../kernel/iommu_groups/12")  # fmt: skip
    plant_pci(tmp_path, "0000:00:03.0", (0x1AF4, 0x1041), "virtio-pci", numa_node="-1")
    (tmp_path / "sys/bus/pci/devices/0000:00:03.0/virtio2/net/eth0").mkdir(parents=True)
    plant(tmp_path, {"sys/bus/pci/devices/0000:00:1f.2/class": "0x010601"})

    virtio, nic = read_pci(tmp_path)
    assert (nic.address, nic.name, nic.driver) == ("0000:03:00.0", "8086:1521", "vfio-pci")
    assert (nic.node, nic.group, nic.interfaces) == (1, "12", ())
    assert (virtio.driver, virtio.node, virtio.group) == ("virtio-pci", None, "")
    assert virtio.interfaces == ("eth0",)
    assert read_user_drivers(tmp_path, "6.1").loaded == ("vfio-pci",)


@pytest.mark.parametrize(
    ("files", "has"),
    [
        (
            {"proc/modules": "", "lib/modules/6.1/modules.dep": "kernel/vfio/vfio-pci.ko.xz: x"},
            True,
        ),
        ({"proc/modules": "", "lib/modules/6.1/modules.builtin": "kernel/vfio/vfio_pci.ko"}, True),
        ({"proc/modules": "", "lib/modules/6.1/modules.dep": "kernel/vfio/vfio.ko:"}, False),
        ({"proc/modules": "", "sys/module/vfio_pci/version": "1"}, True),
        ({"proc/modules": ""}, None),
        ({}, False),
    ],
    ids=["loadable", "built in", "other modules", "loaded", "not told", "loads none"],
)
def test_module_of_the_kernel(tmp_path: Path, files: dict[str, str], has: bool | None) -> None:
    plant(tmp_path, files)
    assert kernel_has("vfio-pci", "6.1", tmp_path) is has


def test_iommu_and_the_mode_without(tmp_path: Path) -> None:
    plant(tmp_path, {"sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "Y"})
    assert read_user_drivers(tmp_path, "6.1").unsafe
    assert not read_user_drivers(tmp_path, "6.1").iommu
    (tmp_path / "sys/class/iommu/dmar0").mkdir(parents=True)
    assert read_user_drivers(tmp_path, "6.1").iommu


# ---- DPDK --------------------------------------------------------------------------------------


def test_drivers_are_what_their_libraries_say_of_themselves(tmp_path: Path) -> None:
    igb = {"name": "net_e1000_igb", "kmod": "* igb_uio | vfio-pci",
           "pci_ids": [[0x8086, 0x1521, 65535, 65535]]}  # fmt: skip
    em = {"name": "net_e1000_em", "kmod": "* igb_uio", "pci_ids": [[0x8086, 0x100E, 65535, 65535]]}
    mlx = {
        "name": "mlx5_eth",
        "kmod": "* ib_uverbs & mlx5_core",
        "pci_ids": [[0x15B3, 0x1019, 0, 0]],
    }
    plant_driver(tmp_path, "librte_net_e1000", igb, em, version="22.11.11")
    plant_driver(tmp_path, "librte_net_mlx5", mlx)
    plant_driver(tmp_path, "librte_net_pcap", {"name": "net_pcap", "params": "rx_pcap=<string>"})
    (tmp_path / "usr/lib/dpdk/pmds-23.0/librte_net_empty.so").touch()

    found = read_dpdk(tmp_path)
    assert (found.version, found.headers) == ("22.11.11", True)
    assert [d.name for d in found.drivers] == [
        "mlx5_eth",
        "net_e1000_em",
        "net_e1000_igb",
        "net_pcap",
    ]
    assert [d.name for d in found.drivers if d.virtual] == ["net_pcap"]
    assert [d.name for d in found.drivers if d.shares] == ["mlx5_eth"]
    driver = found.driver_of(*I350)
    assert driver is not None
    assert (driver.name, driver.library) == ("net_e1000_igb", "librte_net_e1000.so")
    assert found.driver_of(0x8086, 0xFFFF) is None


def test_library_without_headers_has_its_abi_for_a_version(tmp_path: Path) -> None:
    plant(tmp_path, {"usr/lib/librte_eal.so.23": "", "usr/lib/librte_eal.so.23.0": ""})
    found = read_dpdk(tmp_path)
    assert (found.version, found.headers) == ("ABI 23", False)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ("", "pip install --no-binary aiomos --force-reinstall aiomos -Csetup-args=-Ddpdk=enabled"),
        (json.dumps({"url": "file:///src/ai%20mos", "dir_info": {}}),
         "pip install --force-reinstall '/src/ai mos' -Csetup-args=-Ddpdk=enabled"),
        (json.dumps({"url": "file:///src/aiomos", "dir_info": {"editable": True}}),
         "pip install --no-build-isolation -e /src/aiomos -Csetup-args=-Ddpdk=enabled"),
    ],
    ids=["registry", "checkout", "editable"],
)  # fmt: skip
def test_command_that_builds_the_module_is_for_the_way_it_was_installed(
    origin: str, command: str
) -> None:
    assert build_command(origin) == command


# ---- process -----------------------------------------------------------------------------------


def test_capabilities_are_the_bits_of_the_status(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/status": "Name:\tx\nCapEff:\t0000000000002000\n"
                     "CapBnd:\t0000008000003000\nSeccomp:\t2"})  # fmt: skip
    found = read_rights(tmp_path)
    assert found.held == {"CAP_NET_RAW"}
    assert found.obtainable == {"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"}
    assert read_surroundings(tmp_path, "6.1").filtered


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"proc/1/cgroup": "0::/kubepods.slice/x", ".dockerenv": ""}, "kubernetes"),
        ({"proc/1/environ": "A=1\0container=systemd-nspawn\0"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "4:cpu:/lxc/box"}, "lxc"),
    ],
)
def test_container_is_known_by_its_marks(tmp_path: Path, files: dict[str, str], name: str) -> None:
    plant(tmp_path, files)
    assert read_surroundings(tmp_path, "6.1").container == name


def test_user_namespace_and_read_only_sysfs(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/uid_map": "         0       1000          1",
                     "proc/self/mounts": "sysfs /sys sysfs ro,nosuid 0 0"})  # fmt: skip
    found = read_surroundings(tmp_path, "6.1")
    assert found.mapped_users
    assert found.read_only


def test_program_that_runs_is_found_by_name(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/7/comm": "sh", "proc/88/comm": "irqbalance", "proc/self/comm": "x"})
    assert runs("irqbalance", tmp_path)
    assert not runs("x", tmp_path)
