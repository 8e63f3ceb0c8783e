"""How doctor and devices are shown, to people and to programs, of this machine too."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import aiomos_command
from trees import (
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

import aiomos
from aiomos._doctor_show import print_to, show_devices, show_report
from aiomos._ethtool import Hardware, Offloads, Rss
from aiomos._findings import State, listed, size_of
from aiomos._machine import Machine
from aiomos._machine_cpu import Clock
from aiomos._machine_memory import Memory
from aiomos._machine_net import Xdp
from aiomos._machine_rights import Bounds, Sockets
from aiomos.devices import find_devices
from aiomos.doctor import Report, examine

FINDING_FIELDS = {"topic", "state", "text", "commands", "prevents"}

# ---- words and columns --------------------------------------------------------------------------


def test_sizes_and_lists_in_words() -> None:
    assert [size_of(n) for n in (12, 4096, 3 << 19, 16 << 20, 1 << 30)] == [
        "12 B", "4 KiB", "1.5 MiB", "16 MiB", "1 GiB",
    ]  # fmt: skip
    assert [listed(x) for x in ((), "a", "ab", "abc")] == ["none", "a", "a and b", "a, b and c"]


def bad_machine() -> Machine:
    """Everything wrong that can be, with long names."""
    return machine(
        interfaces=(
            interface("enp193s0f1np1v12", addresses=("2001:db8:1234:5678:9abc:def0:1234:5678/64",),
                      hardware=nic(rss=Rss(128, 40, False, True, True), queues=1,
                                   offloads=Offloads(True, True, True, True))),
            interface("veth0123456789a", index=8, default_route=True, kind="veth",
                      hardware=Hardware(), xdp=Xdp(False, False, "generic")),
        ),
        sockets=Sockets("EPERM: operation not permitted", "EPERM: no", "EPERM: no"),
        rights=rights("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF", "CAP_SYS_ADMIN", "CAP_IPC_LOCK"),
        bounds=Bounds(256, 1024, 64 << 10, None),
        surroundings=surroundings(container="kubernetes", mapped_users=True, filtered=True,
                                  read_only=True, tun=False),
        cpus=cpus(allowed=frozenset({1}), quota=0.5, governors=frozenset({"powersave"})),
        clock=Clock("acpi_pm", ("tsc", "acpi_pm")), irqbalance=True,
        memory=Memory(8 << 30, (pages(0, 0, 0), pages(1, 3, 3)), ()),
        pci=(pci(interfaces=("enp193s0f1np1v12",)), pci(address="0000:c1:00.1", interfaces=())),
        user_drivers=user_drivers(loaded=(), iommu=False, vfio=None),
        dpdk=dpdk(built=False, headers=False),
    )  # fmt: skip


def shown_report(facts: Machine) -> str:
    stream = io.StringIO()
    report = examine((), facts)
    print_to(stream, lambda console: show_report(report, console))
    return stream.getvalue()


def test_report_fits_eighty_columns_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown_report(bad_machine())
    lines = [line for line in text.splitlines() if not line.startswith(" " * 10 + "$ ")]
    assert max(map(len, lines)) <= 80
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert "\x1b" not in text


def test_report_shows_every_finding_and_each_command_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report = examine((), bad_machine())
    text = shown_report(bad_machine())
    flat = " ".join(text.split())
    findings = [*report.machine, *(f for w in report.ways for f in w.findings)]
    assert flat.count(" missing ") == sum(f.state is State.MISSING for f in findings)
    commands = [c for f in findings for c in f.commands]
    assert len(commands) > 15
    assert [c for c in commands if f"{' ' * 10}$ {c}\n" not in text] == []
    assert "Possible: files. Not possible: tap, xdp, dpdk and workers." in flat


def test_devices_fit_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.StringIO()
    print_to(stream, lambda console: show_devices(find_devices(bad_machine()), console))
    lines = [
        line for line in stream.getvalue().splitlines() if not line.startswith(" " * 10 + "$ ")
    ]
    assert max(map(len, lines)) <= 80
    flat = "".join(stream.getvalue().split())
    for word in ("enp193s0f1np1v12", "0000:c1:00.1", "net_pcap", "2001:db8:1234:5678:9abc:def0"):
        assert word in flat


# ---- devices ------------------------------------------------------------------------------------


def test_devices_say_which_option_opens_them() -> None:
    used = interface("lan0", index=8, addresses=("192.0.2.1/24",))
    facts = machine(interfaces=(interface(), used), pci=(pci(driver="vfio-pci"), pci(driver="igb")))
    found = find_devices(facts)
    assert [(p.name, p.options) for p in found.interfaces] == [
        ("mirror0", ("-i", "--exclusive")),
        ("lan0", ("-i",)),
        ("any", ("-i",)),
    ]
    assert [c.options for c in found.pci] == [("--dpdk",), ()]
    assert [(v.name, v.parameters) for v in found.virtual] == [
        ("net_af_packet", "iface=<string>"),
        ("net_pcap", "iface=<string>"),
    ]
    assert found.get_dpdk == ()


def test_build_without_dpdk_opens_none_of_its_devices_and_says_how_to_get_it() -> None:
    found = find_devices(machine(pci=(pci(driver="vfio-pci"),), dpdk=dpdk(built=False)))
    assert [c.options for c in found.pci] == [()]
    assert {v.options for v in found.virtual} == {()}
    assert found.get_dpdk == ("pip install DPDK",)


# ---- the commands, on this machine --------------------------------------------------------------


def test_doctor_of_this_machine_as_json() -> None:
    done = aiomos_command("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert set(report) == {"aiomos", "machine", "ways"}
    assert report["aiomos"] == aiomos.__version__
    for way in report["ways"]:
        assert set(way) == {"name", "title", "possible", "findings"}
        assert way["possible"] is not any(f["prevents"] for f in way["findings"])
        for found in way["findings"]:
            assert set(found) == FINDING_FIELDS
            assert found["state"] in ("ok", "note", "missing")
            assert isinstance(found["commands"], list)


def test_devices_of_this_machine_as_json() -> None:
    done = aiomos_command("devices", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert set(found) == {
        *("aiomos", "interfaces", "pci", "virtual", "dpdk", "dpdk_version", "get_dpdk"),
    }
    names = [i["name"] for i in found["interfaces"]]
    assert "lo" in names
    assert names[-1] == "any"


@pytest.mark.parametrize("command", ["doctor", "devices"])
def test_output_for_people_is_plain_when_piped(command: str) -> None:
    done = aiomos_command(command)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b" not in done.stdout
    assert b"DPDK" in done.stdout


@pytest.mark.parametrize("way", ["tap", "xdp", "dpdk", "workers"])
def test_required_way_decides_the_exit_status(way: str) -> None:
    report = json.loads(aiomos_command("doctor", "--json").stdout)
    able = next(w["possible"] for w in report["ways"] if w["name"] == way)
    done = aiomos_command("doctor", "--json", "--require", way)
    assert done.returncode == (0 if able else 1)
    assert json.loads(done.stdout)["ways"]
    complaint = done.stderr.decode()
    assert complaint == "" if able else complaint.startswith(f"aiomos: {way} is not possible: ")


def test_impossible_way_is_named_with_its_obstacle() -> None:
    """One core by affinity: no workers, wherever this runs."""
    done = aiomos_command("doctor", "--require", "workers", preexec_fn=one_core)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aiomos: workers is not possible: cores: 1 may be used (")


def one_core() -> None:
    import os

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_unknown_interface_is_one_line() -> None:
    done = aiomos_command("doctor", "nosuch0")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("aiomos: there is no interface 'nosuch0': lo")


def test_report_is_frozen_and_public_facts_are_plain() -> None:
    report = examine((), machine())
    assert isinstance(report, Report)
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert json.dumps(find_devices(machine()).as_dict())
