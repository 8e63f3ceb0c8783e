"""Several workers on DPDK devices: frames reach them without copies, and none is lost in a death."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import live
from dpdk_kit import huge_pages, needs_dpdk, needs_root
from lab.netns import Namespace, command

from aiomos._metrics import WorkerStats
from aiomos.rss import worker_of

pytestmark = [needs_dpdk, needs_root]

CAPTURES = Path(__file__).parents[1] / "captures"
OURS, THEIRS = "192.0.2.1", "192.0.2.2"
FLOWS = 40
BURST = 64
WITHOUT_COPIES = "frames go through a process of their own, without being copied"

#: Tells of the bytes of each flow.
DIGESTS = """
import hashlib, json, os
import aiomos

app = aiomos.App()

@app.tcp()
async def digests(flow):
    found = []
    for end in (flow.client, flow.server):
        made = hashlib.sha256()
        while data := await end.read(65536):
            made.update(data)
        found.append(made.hexdigest())
    print(json.dumps([os.getpid(), flow.client.port, found]) + "\\n", end="", flush=True)
"""
#: Tells of each datagram.
DATAGRAMS = """
import json, os
import aiomos

app = aiomos.App()

@app.udp("port 7001")
async def datagrams(flow):
    async for datagram in flow:
        said = [os.getpid(), flow.client.port, datagram.data.decode()]
        print(json.dumps(said) + "\\n", end="", flush=True)
"""
#: The same program where ports claim to have the hash that is everybody's.
DIRECT = """
import aiomos._dpdkports as ports
from aiomos.cli import main

ports.may_be_direct = lambda name: True
ports.why_not_direct = lambda info, count: None
main()
"""
#: In a mount namespace with one hugetlbfs, or with none.
ONE_HUGETLBFS = """
for mounted in $(awk -v own="$0" '$3 == "hugetlbfs" && $2 != own { print $2 }' /proc/mounts); do
    umount "$mounted"
done
exec "$@"
"""


def alone_with(folder, program=live.AIOMOS):
    return ["unshare", "--mount", "sh", "-c", ONE_HUGETLBFS, str(folder), *program]


@pytest.fixture(scope="module")
def space():
    if why := live.obstacle():
        pytest.skip(why)
    made = Namespace(f"aiomos-{os.getpid()}-dpdk")
    for scope in ("all", "default"):
        made.sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
    yield made
    made.delete()


@pytest.fixture
def huge(tmp_path):
    """A hugetlbfs of the test's own, of which nothing is left at the end."""
    folder = tmp_path / "huge"
    folder.mkdir()
    with huge_pages(folder):
        yield folder
        assert not list(folder.iterdir()), "huge pages are left"


@pytest.fixture
def short():
    """A folder with the captures, with a path of which net_pcap loses nothing."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as made:
        for path in CAPTURES.glob("*.pcap"):
            (Path(made) / path.name).symlink_to(path)
        yield Path(made)


def rows_of(run):
    """Statistics of the workers, and of the distributor if there is one."""
    report = run.report()
    rows = [*report["workers"], report["distributor"]]
    return [WorkerStats(**row) for row in rows if row]


def app_of(tmp_path, text):
    path = tmp_path / "app.py"
    path.write_text(text)
    return path


def missing(run):
    """How many mbufs a run said that it missed at its end."""
    told = re.findall(r"DPDK's memory leaks: \w+: (\d+) mbufs did not come back", run.err)
    assert len(told) == run.err.count("leak"), run
    return sum(map(int, told))


def ended(run, status=0, most_missing=0):
    """It has ended in order, all frames are back, and nothing is left in the file system."""
    assert run.process.wait(live.PATIENCE) == status, str(run)
    assert missing(run) <= most_missing, run
    assert "Traceback" not in run.err
    assert not Path(f"/var/run/dpdk/aiomos-{run.process.pid}").exists()


# ---- captures ------------------------------------------------------------------------------------


def replayed(space, tmp_path, program, *args):
    """What an app told of a capture, and what the run said."""
    app = app_of(tmp_path, DIGESTS)
    with live.started(space, tmp_path / "run", app, *args, program=program) as run:
        ended(run)
        return [json.loads(line) for line in run.lines], run.err


def test_two_workers_tell_of_a_capture_what_one_process_does(space, tmp_path, short, huge):
    device = ("--dpdk", f"net_pcap0,rx_pcap={short / 'http_demo'}.pcap")
    program = alone_with(huge)
    alone, _ = replayed(space, tmp_path, program, *device)
    shared, said = replayed(space, tmp_path, program, *device, "--workers", 2)
    copied, also = replayed(space, tmp_path, program, *device, "--workers", 2, "--huge", "no")
    assert alone
    assert without_pids(shared) == without_pids(copied) == without_pids(alone)
    assert f"{WITHOUT_COPIES}: the hash of net_pcap0 is not known to be symmetric" in said
    assert "frames are copied by a process of their own: --huge no" in also


def without_pids(told):
    return sorted(row[1:] for row in told)


def test_capture_is_read_no_faster_than_workers_take_it(space, tmp_path, short, huge):
    """More frames than a worker's ring has room for."""
    count, path = 20_000, short / "long"
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for number in range(count):
        data = datagram(10_000, f"{number}")
        records.append(struct.pack("<IIII", 1000, number, len(data), len(data)) + data)
    path.write_bytes(b"".join(records))
    words = ("--dpdk", f"net_pcap0,rx_pcap={path}", "--workers", 2)
    app = app_of(tmp_path, DATAGRAMS)
    with live.started(space, tmp_path / "run", app, *words, program=alone_with(huge)) as run:
        ended(run)
        assert f"{count} packets processed\n0 packets dropped" in run.err


# ---- a tap -----------------------------------------------------------------------------------------


def datagram(port, text):
    """A frame from this port of theirs."""
    udp = struct.pack("!HHHH", port, 7001, 8 + len(text), 0) + text.encode()
    ends = socket.inet_aton(THEIRS) + socket.inet_aton(OURS)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return b"\x02" * 12 + b"\x08\x00" + head + udp


class Tap:
    """A tap that DPDK has opened, from the kernel's side."""

    def __init__(self, space, name):
        command("ip", "-n", space.name, "link", "set", name, "up")
        with space.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((name, 0))
        self.said = {port: [] for port in range(10_000, 10_000 + FLOWS)}

    def send(self, frame):
        self._socket.send(frame)

    def say(self, *words):
        """One datagram of each flow for each word."""
        for port, said in self.said.items():
            for word in words:
                said.append(f"{word} {len(said)}")
                self.send(datagram(port, said[-1]))

    @property
    def count(self):
        return sum(len(said) for said in self.said.values())

    def close(self):
        self._socket.close()


class Told:
    """What the app has told so far: by port, the texts and the processes."""

    def __init__(self, run):
        self.said, self.pids = {}, {}
        for pid, port, text in (json.loads(line) for line in run.lines):
            self.said.setdefault(port, []).append(text)
            self.pids.setdefault(port, [])
            if pid not in self.pids[port]:
                self.pids[port].append(pid)


@pytest.fixture(params=["distributor", "direct"])
def way(request):
    return request.param


@pytest.fixture
def tapped(space, tmp_path, huge, way):
    """A run of two workers on a tap, and the tap."""
    program = live.AIOMOS if way == "distributor" else (sys.executable, "-c", DIRECT)
    words = ("--dpdk", "net_tap0,iface=tap0", "--workers", 2)
    app, program = app_of(tmp_path, DATAGRAMS), alone_with(huge, program)
    with live.started(space, tmp_path / "run", app, *words, program=program) as run:
        run.until_ready()
        tap = Tap(space, "tap0")
        yield run, tap
        tap.close()


def until_told(run, tap):
    """All that was said has been told, by the worker that each flow belongs to."""
    run.until(lambda: len(run.lines) >= tap.count)
    told = Told(run)
    assert told.said == tap.said
    return told


def in_flows_of(told, pid):
    return {port for port, pids in told.pids.items() if pid in pids}


def adds_up(run, tap, way):
    """What came is what was processed; every row is a sum."""
    run.until_settled()
    rows = rows_of(run)
    assert [row.unaccounted for row in rows] == [0] * len(rows)
    assert sum(row.dropped for row in rows) == 0
    first = rows[-1:] if way == "distributor" else rows
    taken_in = sum(row.received for row in first)
    handed_over = sum(row.handed_over for row in rows) if way == "direct" else 0
    assert taken_in - handed_over == tap.count
    assert sum(row.processed + row.lost for row in rows) == tap.count
    return rows


def test_frames_of_a_device_reach_their_workers_and_add_up(tapped, way):
    run, tap = tapped
    tap.say("one", "two", "three")
    told = until_told(run, tap)
    owners = {}
    for port, pids in told.pids.items():
        owners.setdefault(worker_of((THEIRS, port, OURS, 7001), 2), set()).update(pids)
    rows = adds_up(run, tap, way)
    assert owners == {row.number: {row.pid} for row in rows[:2]}
    assert (WITHOUT_COPIES in run.err) == (way == "distributor")
    assert ("each worker reads queues of its own" in run.err) == (way == "direct")
    run.send(signal.SIGINT)
    ended(run)


def test_worker_killed_its_frames_come_back_and_its_successor_goes_on(tapped, way):
    run, tap = tapped
    tap.say("before", "before")
    before = until_told(run, tap)
    victim, other = (row.pid for row in run.workers()[:2])
    run.until_settled()
    os.kill(victim, signal.SIGKILL)
    if way == "distributor":  # whose rings keep what comes meanwhile
        tap.say("meanwhile")
    run.until(lambda: run.workers()[0].pid not in (0, victim))
    tap.say("after", "after")
    told = until_told(run, tap)
    assert in_flows_of(told, other) == in_flows_of(before, other), "flows have moved"
    assert in_flows_of(told, victim) == in_flows_of(before, victim)
    adds_up(run, tap, way)
    run.send(signal.SIGINT)
    ended(run)


@pytest.mark.parametrize("way", ["distributor"], indirect=True)
def test_distributor_killed_its_frames_come_back_and_workers_notice_nothing(tapped, way):
    run, tap = tapped
    for _ in range(3):
        tap.say("word", "word")
        until_told(run, tap)
        run.until_settled()
        victim = rows_of(run)[-1].pid
        os.kill(victim, signal.SIGKILL)
        run.until(lambda gone=victim: rows_of(run)[-1].pid not in (0, gone))
    tap.say("last")
    told = until_told(run, tap)
    assert {len(pids) for pids in told.pids.values()} == {1}
    adds_up(run, tap, way)
    run.send(signal.SIGINT)
    ended(run)


@pytest.mark.parametrize("victim", [0, 2], ids=["worker", "distributor"])
def test_process_killed_under_load_leaves_no_frame_behind(space, tmp_path, huge, victim):
    """Frames without end, all for the first worker: whoever is killed has its hands full."""
    words, program = ("--dpdk", "net_null0", "--workers", 2), alone_with(huge)
    app = app_of(tmp_path, "import aiomos\napp = aiomos.App()\n")
    with live.started(space, tmp_path / "run", app, *words, program=program) as run:
        run.until_ready()
        run.until(lambda: rows_of(run)[0].processed)
        os.kill(rows_of(run)[victim].pid, signal.SIGKILL)
        run.until(lambda: run.report()["restarts"] == 1)
        done = rows_of(run)[0].processed
        run.until(lambda: rows_of(run)[0].processed > done + 10_000)
        assert [row.unaccounted for row in rows_of(run)] == [0, 0, 0]
        run.send(signal.SIGINT)
        ended(run, most_missing=BURST if victim == 2 else 0)  # it may have been in the driver


def library_of(pid):
    """The file whose code a stopped process was in; "": in the kernel's."""
    number, *rest = Path(f"/proc/{pid}/syscall").read_text().split()
    if number != "-1" or len(rest) != 2:
        return ""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= int(rest[1], 16) < last:
            return line.split()[-1]
    return ""


def kill_inside(run, pid, library):
    """Kills a process while it is in the code of a library: stops it again and again until so."""

    def stopped_there():
        os.kill(pid, signal.SIGSTOP)
        stat = Path(f"/proc/{pid}/stat")
        live.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        if library in library_of(pid):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    run.until(stopped_there)
    os.kill(pid, signal.SIGKILL)


def test_process_killed_inside_a_driver_the_frames_that_are_missing_are_told(space, tmp_path, huge):
    """Frames that a driver has just allocated bear no mark, so nobody can give them back (decision
    0060): at most a burst a death, and an error line counts them."""
    words, program = ("--dpdk", "net_null0", "--workers", 2), alone_with(huge)
    app, kills = app_of(tmp_path, "import aiomos\napp = aiomos.App()\n"), 4
    with live.started(space, tmp_path / "run", app, *words, program=program) as run:
        run.until_ready()
        for number in range(kills):
            run.until(lambda: rows_of(run)[2].pid)
            kill_inside(run, rows_of(run)[2].pid, "librte_net_null")
            run.until(lambda number=number: run.report()["restarts"] == number + 1)
        run.until(lambda: rows_of(run)[2].pid)
        run.send(signal.SIGINT)
        ended(run, most_missing=kills * BURST)
        assert missing(run) > 0, run


# ---- what goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "mounted", "says"),
    [
        (("--dpdk", "net_null0", "--workers", 2, "--huge", "yes"), False,
         "mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages"),
        (("--dpdk", "net_null0", "--workers", 100, "--huge", "yes"), True,
         "MiB of huge pages are free, and 100 workers need "),
        (("--dpdk", "net_nosuch0", "--workers", 2), True, "net_nosuch0 cannot be opened"),
        (("--dpdk", "net_pcap0,rx_pcap=/nonexistent", "--workers", 2), True,
         "/nonexistent: No such file"),
        (("--dpdk", "ff:1f.7", "--workers", 2), True, "there is no PCI device 0000:ff:1f.7"),
        (("--dpdk", "eth0", "--workers", 2), True, "'eth0' is no DPDK device"),
    ],
    ids=["no hugetlbfs", "too few pages", "no driver", "no file", "no NIC", "no device"],
)  # fmt: skip
def test_what_cannot_be_is_told_before_any_worker_starts(
    space, tmp_path, huge, words, mounted, says
):
    app = app_of(tmp_path, "import os\nprint('begun', flush=True)\n" + DIGESTS)
    program = alone_with(huge if mounted else "none")
    with live.started(space, tmp_path / "run", app, *words, program=program) as run:
        ended(run, 2)
        assert says in run.err
        assert len(run.err.splitlines()) <= 2, "the error, and at most how frames would have gone"
        assert not run.lines


def test_without_hugetlbfs_frames_are_copied_and_it_says_why(space, tmp_path):
    """As before there was anything to share."""
    words = ("--dpdk", f"net_pcap0,rx_pcap={CAPTURES / 'http_demo.pcap'}", "--workers", 2)
    app = app_of(tmp_path, DIGESTS)
    with live.started(space, tmp_path / "run", app, *words, program=alone_with("none")) as run:
        ended(run)
        assert run.lines
        assert "frames are copied by a process of their own: " in run.err


def test_arguments_that_other_processes_would_not_see_whole_are_no_trouble(space, tmp_path, huge):
    path = tmp_path / ("long" * 20)
    path.symlink_to(CAPTURES / "http_demo.pcap")
    words = ("--dpdk", f"net_pcap0,rx_pcap={path}", "--workers", 2)
    told, said = replayed(space, tmp_path, alone_with(huge), *words)
    assert told
    assert "are copied by a process of their own: net_pcap0 tells other processes 63" in said
