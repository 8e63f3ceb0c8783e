"""Facts and judgements against the real kernel: interfaces made for it, a user without rights,
and each remedy that is safe to try, tried."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1] / "captures"))
from lab.netns import Namespace, command

from aiomos._findings import Finding, State
from aiomos._machine import read_machine
from aiomos._machine_net import Interface, read_interfaces
from aiomos._machine_rights import CAPABILITIES, try_sockets
from aiomos.doctor import examine

NOBODY = 65534
PAGES = Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")


@pytest.fixture(scope="module")
def site() -> Iterator[Namespace]:
    """A host with two addresses and a default route, a mirror port, a bridge and a tap device."""
    space = Namespace(f"aiomos-{os.getpid()}-doctor")
    try:
        ip = ("ip", "-n", space.name)
        command(*ip, "link", "set", "lo", "up")
        command(*ip, "link", "add", "wan0", "numrxqueues", "4", "numtxqueues", "2", "mtu", "1400",
                "type", "veth", "peer", "name", "wan1")  # fmt: skip
        command(*ip, "link", "add", "mirror0", "type", "veth", "peer", "name", "mirror1")
        command(*ip, "link", "add", "bridge0", "type", "bridge")
        command(*ip, "tuntap", "add", "tap0", "mode", "tap")
        command(*ip, "address", "add", "192.0.2.1/24", "dev", "wan0")
        command(*ip, "address", "add", "2001:db8::1/64", "dev", "wan0", "nodad")
        command(*ip, "address", "add", "198.51.100.1/24", "dev", "tap0")
        command(*ip, "link", "set", "mirror1", "master", "bridge0")
        for name in ("wan0", "wan1", "mirror0", "tap0"):
            command(*ip, "link", "set", name, "up")
        command(*ip, "route", "add", "default", "via", "192.0.2.254")
        yield space
    finally:
        space.delete()


@pytest.fixture
def found(site: Namespace) -> dict[str, Interface]:
    with site.entered():
        return {i.name: i for i in read_interfaces()}


def ip_json(site: Namespace, *args: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["ip", "-n", site.name, "-d", "-j", *args], capture_output=True, check=True
    )
    return list(json.loads(done.stdout))


# ---- facts, beside what ip and ethtool say ----------------------------------------------------


def test_interfaces_are_those_that_ip_lists(site: Namespace, found: dict[str, Interface]) -> None:
    told = ip_json(site, "link")
    assert list(found) == [link["ifname"] for link in told]
    for link in told:
        ours = found[link["ifname"]]
        assert (ours.index, ours.mtu, ours.mac) == (link["ifindex"], link["mtu"], link["address"])
        assert ours.state == link["operstate"].lower().replace("lowerlayer", "lower layer ")
        assert ours.up == ("UP" in link["flags"])
        assert ours.loopback == ("LOOPBACK" in link["flags"])
        assert ours.kind == link.get("linkinfo", {}).get("info_kind", "")
        assert ours.master == link.get("master", "")
        assert ours.rx_queues == link["num_rx_queues"]
        assert ours.tx_queues == link["num_tx_queues"]


def test_addresses_and_default_route_are_those_that_were_given(
    found: dict[str, Interface],
) -> None:
    assert found["wan0"].addresses == ("192.0.2.1/24", "2001:db8::1/64")
    assert found["mirror0"].addresses == ()
    assert {name for name, i in found.items() if i.default_route} == {"wan0"}


def test_default_route_over_several_next_hops_is_of_each(site: Namespace) -> None:
    ip = ("ip", "-n", site.name, "route")
    hops = ("nexthop", "via", "192.0.2.254", "nexthop", "via", "198.51.100.254")
    command(*ip, "replace", "default", *hops)
    try:
        with site.entered():
            assert {i.name for i in read_interfaces() if i.default_route} == {"wan0", "tap0"}
    finally:
        command(*ip, "replace", "default", "via", "192.0.2.254")


def test_drivers_speed_and_queues_are_those_that_ethtool_tells(
    site: Namespace, found: dict[str, Interface]
) -> None:
    drivers = {n: found[n].driver for n in ("wan0", "bridge0", "tap0")}
    assert drivers == {"wan0": "veth", "bridge0": "bridge", "tap0": "tun"}
    assert found["wan0"].hardware.speed == 10_000
    told = ethtool(site, "-l", "wan0").partition("Current")
    assert f"RX:\t\t{found['wan0'].hardware.queues_max}" in told[0]
    assert f"RX:\t\t{found['wan0'].queues}" in told[2]
    assert not found["wan0"].hardware.combined


def ethtool(site: Namespace, *args: str) -> str:
    done = subprocess.run(["ip", "netns", "exec", site.name, "ethtool", *args],
                          capture_output=True, text=True, check=True)  # fmt: skip
    return done.stdout


def test_offloads_follow_ethtool(site: Namespace) -> None:
    for switch in ("on", "off"):
        ethtool(site, "-K", "mirror0", "gro", switch, "tso", switch, "gso", switch)
        with site.entered():
            offloads = next(i for i in read_interfaces() if i.name == "mirror0").offloads
        told = ethtool(site, "-k", "mirror0")
        assert f"tcp-segmentation-offload: {switch}\n" in told
        assert (offloads.gro, offloads.tso, offloads.gso) == (switch == "on",) * 3


def test_interfaces_are_this_threads_namespace_not_that_of_sysfs(site: Namespace) -> None:
    outside = {i.name for i in read_interfaces()}
    with site.entered():
        inside = {i.name for i in read_interfaces()}
    assert "wan0" in inside - outside


def test_driver_of_veth_has_xdp_of_its_own_and_a_bridge_has_none(
    found: dict[str, Interface],
) -> None:
    assert found["mirror0"].xdp.native is True
    assert not found["bridge0"].xdp.native


# ---- remedies, tried --------------------------------------------------------------------------


def finding(way: str, topic: str, *names: str) -> Finding:
    ways = examine(names).ways
    return next(f for w in ways if w.name == way for f in w.findings if f.topic == topic)


def obey(finding: Finding, space: Namespace | None = None) -> None:
    """Runs the commands of a remedy as they stand, in a shell, as root."""
    assert finding.commands
    for line in finding.commands:
        inside = ["ip", "netns", "exec", space.name] if space else []
        subprocess.run([*inside, "sh", "-ec", line], check=True, timeout=60)


@pytest.fixture
def inside(site: Namespace) -> Iterator[Namespace]:
    with site.entered():
        yield site


def test_interface_that_is_off_is_on_after_its_remedy(inside: Namespace) -> None:
    command("ip", "-n", inside.name, "link", "set", "mirror0", "down")
    obey(finding("tap", "mirror0", "mirror0"), inside)
    assert next(i for i in read_interfaces() if i.name == "mirror0").up


def test_offloads_are_off_after_their_remedy(inside: Namespace) -> None:
    ethtool(inside, "-K", "wan0", "gro", "on", "tso", "on", "gso", "on")
    obey(finding("tap", "wan0", "wan0"), inside)
    assert finding("tap", "wan0", "wan0").state is State.OK


def test_interface_with_an_address_may_be_taken_after_its_remedy(inside: Namespace) -> None:
    assert "refused" in finding("xdp", "tap0: use", "tap0").text
    obey(finding("xdp", "tap0: use", "tap0"), inside)
    assert finding("xdp", "tap0: use", "tap0").state is State.OK
    command("ip", "-n", inside.name, "address", "add", "198.51.100.1/24", "dev", "tap0")


def test_queues_are_more_after_their_remedy(inside: Namespace) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    ethtool(inside, "-L", "wan0", "rx", "1", "tx", "1")
    found = finding("workers", "wan0: queues", "wan0")
    assert "1 of 4 in use" in found.text
    obey(found, inside)
    assert finding("workers", "wan0: queues", "wan0").state is State.OK


def test_named_interface_with_the_default_route_cannot_be_taken(inside: Namespace) -> None:
    found = finding("xdp", "wan0: use", "wan0")
    assert found.prevents
    assert "default route" in found.text


def test_hugetlbfs_is_mounted_after_its_remedy() -> None:
    """In a mount namespace, so that nobody else sees it."""
    if not PAGES.exists():
        pytest.skip("this kernel has no huge pages of 2 MiB on node 0")
    facts = read_machine()
    bare = attrs.evolve(facts, memory=attrs.evolve(facts.memory, mounts=()))
    remedy = judged(examine((), bare).as_dict(), "dpdk", "hugetlbfs, 2 MiB")
    script = ["umount -a -t hugetlbfs || true", *remedy["commands"]]
    look = f"{sys.executable} -m aiomos.cli doctor --json"
    run = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
    made = not Path("/dev/hugepages").exists()
    try:
        done = subprocess.run([*run, "\n".join([*script, look])], capture_output=True, timeout=60)
    finally:
        if made and Path("/dev/hugepages").exists():
            Path("/dev/hugepages").rmdir()
    assert done.returncode == 0, done.stderr
    found = judged(json.loads(done.stdout), "dpdk", "hugetlbfs, 2 MiB")
    assert (found["state"], found["text"]) == ("ok", "mounted at /dev/hugepages.")


def judged(report: dict[str, Any], way: str, topic: str) -> dict[str, Any]:
    ways = {w["name"]: w["findings"] for w in report["ways"]}
    return next(f for f in ways[way] if f["topic"] == topic)


# ---- a user without rights --------------------------------------------------------------------


def as_nobody(then: str) -> subprocess.CompletedProcess[str]:
    """Runs Python as nobody; everything is imported before, since nobody may not read it here."""
    program = f"""
import os
import ctypes
import json
import aiomos.cli, aiomos.devices, aiomos.doctor
aiomos.doctor.examine()
{then}
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


BECOME = f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)"


def test_user_without_rights_gets_a_report_with_what_is_missing() -> None:
    done = as_nobody(f"{BECOME}\naiomos.cli.main(['doctor', '--json', '--require', 'tap'])")
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("aiomos: tap is not possible: rights: CAP_NET_RAW not held")
    report = json.loads(done.stdout)
    ways = {w["name"]: w for w in report["ways"]}
    assert ways["files"]["possible"]
    for name in ("tap", "xdp"):
        assert not ways[name]["possible"]
        rights = judged(report, name, "rights")
        assert rights["state"] == "missing"
        assert rights["commands"][0].startswith(f"sudo setpriv --reuid={NOBODY} --regid={NOBODY}")


def test_user_without_rights_sees_devices() -> None:
    done = as_nobody(f"{BECOME}\naiomos.cli.main(['devices', '--json'])")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["interfaces"][0]["name"] == "lo"


def test_packet_socket_is_tried_not_guessed() -> None:
    """Root opens both; without the capability neither opens, and the error's name says why."""
    tried = try_sockets()
    assert (tried.packet, tried.ring) == ("", "")
    done = as_nobody(f"from aiomos._machine_rights import try_sockets\n{BECOME}\n"
                     "print(try_sockets().packet, try_sockets().xdp, sep='|')")  # fmt: skip
    packet, xdp = done.stdout.strip().split("|")
    assert packet.startswith("EPERM: ")
    assert xdp.startswith(("EPERM: ", "EAFNOSUPPORT: "))


def test_remedy_for_rights_gives_exactly_these_rights() -> None:
    """The line as it stands, but for sudo and for the program, which here shows its capabilities."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    done = as_nobody(f"{BECOME}\naiomos.cli.main(['doctor', '--json'])")
    (line,) = judged(json.loads(done.stdout), "xdp", "rights")["commands"]
    words = shlex.split(line)
    assert words[0] == "sudo"
    told = subprocess.run([*words[1:-3], "cat", "/proc/self/status"], capture_output=True,
                          text=True, check=True).stdout  # fmt: skip
    status = dict(row.split(":\t", 1) for row in told.splitlines())
    assert int(status["CapEff"], 16) == sum(1 << CAPABILITIES[f"CAP_{n}"] for n in XDP)
    assert status["Uid"].split() == [str(NOBODY)] * 4


XDP = ("NET_RAW", "NET_ADMIN", "BPF")


# ---- a program of XDP in the way --------------------------------------------------------------


def load_pass() -> int:
    """A program that passes every frame; its descriptor."""
    code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)  # r0 = XDP_PASS; exit
    instructions = ctypes.create_string_buffer(code)
    license_ = ctypes.create_string_buffer(b"BSD")
    asked = ctypes.create_string_buffer(
        struct.pack("=IIQQ", 6, 2, ctypes.addressof(instructions), ctypes.addressof(license_))
        + bytes(100)
    )
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)
    if number is None:
        pytest.skip(f"the number of bpf(2) on {os.uname().machine} is not known here")
    descriptor = libc.syscall(number, 5, asked, 124)
    if descriptor < 0:
        pytest.skip(f"no XDP program can be loaded: {os.strerror(ctypes.get_errno())}")
    return int(descriptor)


def attach_generic(index: int, program: int) -> None:
    """As ``ip link set dev NAME xdpgeneric ...``, which wants a file of its own kind."""
    xdp = struct.pack("=HHiHHI", 8, 1, program, 8, 3, 1 << 1)
    attribute = struct.pack("=HH", 4 + len(xdp), 43 | 0x8000) + xdp
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asked:
        asked.send(struct.pack("=IHHII", 16 + len(body), 19, 0x5, 1, 0) + body)
        (code,) = struct.unpack_from("=i", asked.recv(4096), 16)
        assert code == 0, os.strerror(-code)


def test_program_in_the_way_is_gone_after_its_remedy(
    inside: Namespace, found: dict[str, Interface]
) -> None:
    program = load_pass()
    attach_generic(found["mirror0"].index, program)
    os.close(program)
    seen = finding("xdp", "mirror0: mode", "mirror0")
    assert "attached already (generic)" in seen.text
    assert seen.prevents
    obey(seen, inside)
    assert finding("xdp", "mirror0: mode", "mirror0").state is State.OK
