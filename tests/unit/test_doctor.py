"""What doctor makes of machines: states and remedies."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from trees import (
    MLX5,
    cpus,
    dpdk,
    interface,
    machine,
    nic,
    pages,
    pci,
    rights,
    surroundings,
    user_drivers,
)

from aiomos._engine.errors import SourceError
from aiomos._ethtool import Offloads, Rss
from aiomos._findings import Finding, State
from aiomos._machine_cpu import Clock
from aiomos._machine_memory import HugeMount, Memory
from aiomos._machine_net import Xdp
from aiomos._machine_rights import Bounds, Sockets
from aiomos.doctor import examine


def finding(way: str, topic: str, names: tuple[str, ...] = (), **facts: Any) -> Finding:
    """The one finding on a topic, about a machine that differs from a good one in ``facts``."""
    report = examine(names, machine(**facts))
    findings = report.machine if way == "machine" else next(
        w.findings for w in report.ways if w.name == way
    )  # fmt: skip
    (found,) = [f for f in findings if f.topic == topic]
    return found


def possible(name: str, names: tuple[str, ...] = (), **facts: Any) -> bool:
    return examine(names, machine(**facts)).obstacle(name) is None


def test_good_machine_can_everything() -> None:
    report = examine((), machine())
    assert [w.name for w in report.ways] == ["files", "tap", "xdp", "dpdk", "workers"]
    assert all(w.possible for w in report.ways)
    assert not [f for w in report.ways for f in w.findings if f.state is State.MISSING]


# ---- rights and sockets ------------------------------------------------------------------------


def test_user_without_rights_is_told_how_root_gives_them() -> None:
    found = finding("tap", "rights", rights=rights("CAP_NET_RAW"))
    assert (found.state, found.prevents) == (State.MISSING, True)
    (command,) = found.commands
    assert command.startswith("sudo setpriv --reuid=")
    assert '--inh-caps=+net_raw --ambient-caps=+net_raw "$(command -v aiomos)" run ...' in command


def test_container_without_the_right_is_told_how_it_is_started() -> None:
    found = finding(
        "xdp",
        "rights",
        rights=rights("CAP_NET_ADMIN", obtainable=False),
        surroundings=surroundings(container="docker"),
    )
    assert found.commands == ("docker run --cap-add=NET_RAW --cap-add=NET_ADMIN --cap-add=BPF ...",)


def test_bpf_comes_with_the_right_to_everything() -> None:
    assert finding("xdp", "rights", rights=rights("CAP_BPF")).state is State.OK
    assert not possible("xdp", rights=rights("CAP_BPF", "CAP_SYS_ADMIN"))


@pytest.mark.parametrize(
    ("sockets", "way", "topic"),
    [
        (Sockets("EAFNOSUPPORT: x", "EAFNOSUPPORT: x", ""), "tap", "packet socket"),
        (Sockets("", "ENOMEM: x", ""), "tap", "packet socket"),
        (Sockets("", "", "EAFNOSUPPORT: x"), "xdp", "AF_XDP socket"),
        (Sockets("", "", "EPERM: x"), "xdp", "AF_XDP socket"),
    ],
)
def test_socket_that_does_not_open_prevents_its_way(sockets: Sockets, way: str, topic: str) -> None:
    found = finding(way, topic, sockets=sockets)
    assert found.prevents
    assert "x)" in found.text


def test_small_locked_memory_matters_to_users_only() -> None:
    small = Bounds(65536, 65536, 64 << 10, None)
    assert finding("xdp", "locked memory", bounds=small).state is State.OK
    found = finding("xdp", "locked memory", bounds=small, rights=rights("CAP_IPC_LOCK"))
    assert found.state is State.MISSING
    assert found.commands == ("prlimit --pid $$ --memlock=unlimited",)


def test_queue_of_large_frames_is_bounded_for_users_only() -> None:
    small = Bounds(65536, 65536, -1, 212992)
    assert finding("tap", "large frames", bounds=small).state is State.OK
    found = finding("tap", "large frames", bounds=small, rights=rights("CAP_NET_ADMIN"))
    assert (found.state, found.prevents) == (State.NOTE, False)
    assert found.commands == ("sysctl -w net.core.rmem_max=33554432",)
    raised = Bounds(65536, 65536, -1, 32 << 20)
    found = finding("tap", "large frames", bounds=raised, rights=rights("CAP_NET_ADMIN"))
    assert found.state is State.OK


# ---- interfaces --------------------------------------------------------------------------------


def test_offloads_are_explained_with_the_line_that_ends_them() -> None:
    hardware = nic(offloads=Offloads(gro=True, lro=True))
    found = finding("tap", "mirror0", interfaces=(interface(hardware=hardware),))
    assert found.state is State.NOTE
    assert found.text.startswith("GRO and LRO on: ")
    assert found.commands == ("ethtool -K mirror0 gro off lro off",)


def test_interface_that_is_off_is_not_looked_at_unless_named() -> None:
    off = interface(up=False, state="down")
    assert not [f for f in examine((), machine(interfaces=(off,))).ways[1].findings
                if f.topic == "mirror0"]  # fmt: skip
    found = finding("tap", "mirror0", ("mirror0",), interfaces=(off,))
    assert found.commands == ("ip link set mirror0 up",)


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        ({"default_route": True, "addresses": ("192.0.2.1/24",)}, ()),
        ({"addresses": ("192.0.2.1/24",)}, ("ip address flush dev mirror0 scope global",)),
        ({"loopback": True}, ()),
    ],
)
def test_interface_that_the_host_needs_is_not_taken(
    changes: dict[str, Any], commands: tuple[str, ...]
) -> None:
    needed = interface(**changes)
    found = finding("xdp", "mirror0: use", ("mirror0",), interfaces=(needed,))
    assert "refused" in found.text
    assert found.commands == commands
    assert found.prevents, "it was named"
    assert possible("xdp", interfaces=(needed,)), "others may be there"


@pytest.mark.parametrize(
    ("xdp", "state", "word"),
    [
        (Xdp(True, True), State.OK, "without copying"),
        (Xdp(True, False), State.OK, "with one copy"),
        (Xdp(False, False), State.NOTE, "generic mode"),
        (Xdp(None, None), State.NOTE, "not known"),
        (Xdp(True, True, "generic"), State.MISSING, "attached already"),
    ],
)
def test_mode_of_xdp(xdp: Xdp, state: State, word: str) -> None:
    found = finding("xdp", "mirror0: mode", interfaces=(interface(xdp=xdp),))
    assert found.state is state
    assert word in found.text


def test_program_in_the_way_is_taken_off_by_its_mode() -> None:
    busy = interface(xdp=Xdp(True, True, "generic"))
    found = finding("xdp", "mirror0: mode", interfaces=(busy,))
    assert found.commands == ("ip link set dev mirror0 xdpgeneric off",)


# ---- DPDK --------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [True, False])
def test_build_without_dpdk_names_what_brings_it(headers: bool) -> None:
    found = finding("dpdk", "module", dpdk=dpdk(built=False, headers=headers))
    assert found.prevents
    install = () if headers else ("apt-get install libdpdk-dev dpdk",)
    assert found.commands == (*install, "pip install DPDK")


def test_module_of_another_version_says_what_the_loader_said() -> None:
    found = finding("dpdk", "module", dpdk=dpdk(error="librte_eal.so.24: cannot open"))
    assert found.prevents
    assert "librte_eal.so.24" in found.text


def test_library_without_drivers_and_no_library() -> None:
    assert finding("dpdk", "library", dpdk=dpdk(drivers=())).commands == (
        "apt-get install librte-meta-net",
    )
    assert not possible("dpdk", dpdk=dpdk(version="", drivers=()))


def test_driver_af_packet_comes_with_its_faults() -> None:
    found = finding("dpdk", "net_af_packet")
    assert found.state is State.NOTE
    for fault in ("slot size", "drops", "rollover", "-i IFACE"):
        assert fault in found.text


def test_each_node_with_processors_gets_huge_pages_of_its_own() -> None:
    nodes = ((0, frozenset({0, 1})), (1, frozenset({2, 3})), (2, frozenset()))
    memory = Memory(8 << 30, (pages(0, 512, 200), pages(1, 0, 0), pages(2, 0, 0)), ())
    facts = {"memory": memory, "cpus": cpus(nodes=nodes)}
    assert finding("dpdk", "huge pages, node 0", **facts).state is State.OK
    found = finding("dpdk", "huge pages, node 1", **facts)
    assert found.commands == (
        "echo 128 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
    )
    assert possible("dpdk", **facts), "virtual devices run without"
    topics = [f.topic for f in examine((), machine(**facts)).ways[3].findings]
    assert "huge pages, node 2" not in topics


def test_pages_in_use_are_added_to() -> None:
    memory = Memory(8 << 30, (pages(0, 300, 100),), ())
    (command,) = finding("dpdk", "huge pages, node 0", memory=memory).commands
    assert command.startswith("echo 328 > ")


def test_machine_with_little_memory_is_not_told_to_give_it_all_away() -> None:
    memory = Memory(300 << 20, (pages(0, 0, 0),), ())
    assert finding("dpdk", "huge pages, node 0", memory=memory).commands == ()


def test_mount_is_for_the_size_that_is_reserved() -> None:
    gigantic = attrs.evolve(pages(), size=1 << 30, total=2, free=2)
    memory = Memory(8 << 30, (pages(total=0, free=0), gigantic), ())
    assert finding("dpdk", "hugetlbfs, 1 GiB", memory=memory).commands == (
        "mkdir -p /dev/hugepages-1024M",
        "mount -t hugetlbfs -o pagesize=1024M nodev /dev/hugepages-1024M",
    )


def test_mount_of_somebody_else_is_opened_to_users() -> None:
    memory = Memory(8 << 30, (pages(),), (HugeMount("/mnt/huge", 2 << 20, False),))
    assert finding("dpdk", "hugetlbfs, 2 MiB", memory=memory).commands == ("chmod 1777 /mnt/huge",)


def test_nic_that_the_kernel_has_is_bound_by_one_line() -> None:
    found = finding("dpdk", "0000:03:00.0", pci=(pci(),))
    assert found.commands == ("dpdk-devbind.py --bind=vfio-pci 0000:03:00.0",)
    assert "net_e1000_igb" in found.text


def test_nic_that_the_host_lives_on_is_left_to_it() -> None:
    used = interface(addresses=("192.0.2.1/24",))
    found = finding("dpdk", "0000:03:00.0", pci=(pci(),), interfaces=(used,))
    assert (found.state, found.commands) == (State.NOTE, ())


def test_nic_that_is_handed_over_or_shared_is_ready() -> None:
    bound = pci(driver="vfio-pci", interfaces=())
    assert finding("dpdk", "0000:03:00.0", pci=(bound,)).state is State.OK
    mellanox = pci(vendor=MLX5[0], device=MLX5[1], driver="mlx5_core")
    found = finding("dpdk", "0000:03:00.0", pci=(mellanox,))
    assert found.state is State.OK
    assert "nothing to bind" in found.text


def test_nic_without_a_driver_in_dpdk_is_said_to_be_so() -> None:
    found = finding("dpdk", "0000:03:00.0", pci=(pci(device=1),))
    assert "no installed DPDK driver" in found.text


def test_user_needs_the_group_of_a_nic_and_vfio_itself() -> None:
    facts: dict[str, Any] = {"rights": rights("CAP_SYS_ADMIN"),
                             "pci": (pci(driver="vfio-pci", interfaces=()),)}  # fmt: skip
    found = finding("dpdk", "0000:03:00.0", **facts)
    assert found.commands == ("chown 1000 /dev/vfio/12",)
    closed = user_drivers(container=False)
    found = finding("dpdk", "vfio-pci", user_drivers=closed, **facts)
    assert found.commands == ("chmod 666 /dev/vfio/vfio",)


@pytest.mark.parametrize(
    ("changes", "commands", "word"),
    [
        ({"loaded": (), "vfio": True}, ("modprobe vfio-pci",), "not loaded"),
        ({"loaded": (), "vfio": None}, ("modprobe vfio-pci",), "not loaded"),
        ({"loaded": (), "vfio": False}, (), "no such module"),
        ({"loaded": (), "vfio": False, "modules": False}, (), "loads no modules"),
    ],
)
def test_vfio_is_loaded_where_there_is_one(
    changes: dict[str, Any], commands: tuple[str, ...], word: str
) -> None:
    found = finding("dpdk", "vfio-pci", pci=(pci(),), user_drivers=user_drivers(**changes))
    assert found.commands == commands
    assert word in found.text


def test_machine_without_iommu_has_two_ways_out() -> None:
    found = finding("dpdk", "IOMMU", pci=(pci(),), user_drivers=user_drivers(iommu=False))
    assert "intel_iommu=on" in found.text
    assert found.commands == ("echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",)
    off = user_drivers(iommu=False, loaded=())
    assert finding("dpdk", "IOMMU", pci=(pci(),), user_drivers=off).commands[0] == (
        "modprobe vfio-pci"
    )


def test_tap_device_needs_tun() -> None:
    tap = attrs.evolve(dpdk().drivers[-1], name="net_tap")
    found = finding("dpdk", "net_tap", dpdk=dpdk(drivers=(tap,)),
                    surroundings=surroundings(tun=False))  # fmt: skip
    assert found.commands == ("modprobe tun",)


# ---- workers -----------------------------------------------------------------------------------


def test_one_core_is_one_worker() -> None:
    facts = {"cpus": cpus(allowed=frozenset({2}))}
    found = finding("workers", "cores", **facts)
    assert found.commands == ("taskset -c 0-3 aiomos run ...",)
    assert not possible("workers", **facts)
    assert finding("workers", "cores", cpus=cpus(allowed=frozenset({1, 2}))).state is State.NOTE


def test_hyper_threads_are_counted_once() -> None:
    twins = (frozenset({0, 2}), frozenset({1, 3}))
    assert "--cores 0-1" in finding("workers", "hyper-threads", cpus=cpus(siblings=twins)).text


def test_isolated_cores_with_and_without_the_tick() -> None:
    two = frozenset({2, 3})
    both = finding("workers", "isolated cores", cpus=cpus(isolated=two, tickless=two))
    assert both.text == "2-3 are kept free of other work."
    ticking = finding("workers", "isolated cores", cpus=cpus(isolated=two))
    assert "tick stays" in ticking.text
    assert "isolcpus=1-3" in finding("workers", "isolated cores").text


@pytest.mark.parametrize(
    ("topic", "facts", "command"),
    [
        ("frequency", {"cpus": cpus(governors=frozenset({"powersave"}))},
         "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
        ("clock source", {"clock": Clock("hpet", ("tsc", "hpet"))},
         "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
        ("irqbalance", {"irqbalance": True}, "systemctl stop irqbalance"),
        ("open files", {"bounds": Bounds(256, -1, -1, None)}, "ulimit -n 4096"),
        ("open files", {"bounds": Bounds(256, 1024, -1, None)}, "ulimit -n 1024"),
        ("mirror0: queues", {}, "ethtool -L mirror0 combined 4"),
    ],
)  # fmt: skip
def test_what_slows_workers_has_a_remedy(topic: str, facts: dict[str, Any], command: str) -> None:
    few = interface(hardware=nic(queues=1))
    found = finding("workers", topic, interfaces=(few,), **facts)
    assert found.commands == (command,)


def test_clock_that_cannot_be_bettered_is_only_noted() -> None:
    found = finding("workers", "clock source", clock=Clock("hpet", ("hpet", "acpi_pm")))
    assert (found.state, found.commands) == (State.NOTE, ())


def test_quota_below_the_number_of_cores_is_a_warning() -> None:
    assert finding("workers", "CPU quota", cpus=cpus(quota=1.5)).state is State.NOTE
    assert finding("workers", "CPU quota", cpus=cpus(quota=8.0)).state is State.OK


@pytest.mark.parametrize(
    ("rss", "state", "word"),
    [
        (None, State.NOTE, "does not tell"),
        (Rss(128, 40, True, True, False), State.OK, "symmetric:"),
        (Rss(128, 40, True, False, False), State.OK, "addresses alone"),
        (Rss(128, 0, False, True, True), State.NOTE, "cannot be set"),
        (Rss(128, 40, False, True, True), State.NOTE, "not symmetric"),
    ],
)
def test_hash_of_the_queues(rss: Rss | None, state: State, word: str) -> None:
    found = finding("workers", "mirror0: RSS", interfaces=(interface(hardware=nic(rss=rss)),))
    assert found.state is state
    assert word in found.text


def test_key_that_makes_the_hash_symmetric_is_as_long_as_the_device_wants() -> None:
    plain = interface(hardware=nic(rss=Rss(128, 40, False, True, True)))
    (command,) = finding("workers", "mirror0: RSS", interfaces=(plain,)).commands
    found = re.fullmatch(r"ethtool -X mirror0 hkey ([0-9a-f:]+) equal 4", command)
    assert found is not None
    assert bytes.fromhex(found[1].replace(":", "")) == b"\x6d\x5a" * 20


# ---- surroundings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"container": "podman"}, "container"),
        ({"mapped_users": True}, "user namespace"),
        ({"filtered": True}, "seccomp"),
        ({"read_only": True}, "/sys"),
    ],
)
def test_surroundings_that_limit_are_noted(changes: dict[str, Any], topic: str) -> None:
    assert finding("machine", topic, surroundings=surroundings(**changes)).state is State.NOTE


def test_interface_that_is_not_there_is_an_error_that_lists_those_that_are() -> None:
    with pytest.raises(SourceError, match="there is no interface 'mirror9': mirror0"):
        examine(("mirror9",), machine())
