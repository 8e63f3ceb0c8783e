"""Captures shared out among worker processes: what they say together, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import live

CAPTURES = Path(__file__).parents[1] / "captures"
#: Tells of each flow: its key, digests of both sides, and how it ended.
WHOLE = """
import hashlib, os
import aiomos
from aiomos import rss

app = aiomos.App()

@app.tcp(on_gap="skip", limit=1 << 24)
async def stream(flow):
    reason = await flow.closed()
    told = [hashlib.sha256(await end.read()).hexdigest() for end in (flow.client, flow.server)]
    print(flow.key, *told, reason.name, flow.midstream)

@app.udp()
async def datagrams(flow):
    told = [(d.sender, d.time, hashlib.sha256(d.data).hexdigest()) async for d in flow]
    print(flow.key, told)
"""
LIFESPAN = """
@app.lifespan
async def begins(app):
    {0}
    yield
"""


def ended(run):
    """Its exit status."""
    return run.process.wait(live.PATIENCE)


def notes(run):
    """What it said to people, but how many cores there are."""
    return [line for line in run.err.splitlines() if " cores" not in line]


def is_gone(pid):
    """A process has ended, whether or not somebody has noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def cores_of_this_machine():
    return sorted(os.sched_getaffinity(0))


# ---- together they do what one does --------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "workers"),
    [
        (["http_demo.pcap"], 2),
        (["http_demo.pcap", "tls_duplicate.pcapng", "smtp_any.pcap", "dns.pcap"], 3),
        (["bulk_lossy.pcap.gz", "resets.pcap"], 2),
    ],
)
def test_workers_say_together_what_one_says(start, names, workers):
    assert_same(start, [CAPTURES / name for name in names], workers)


def test_workers_of_a_capture_with_many_flows_say_what_one_says(start, corpus):
    files = (corpus / "public").rglob("*PcapPlusPlus__many-protocols.pcap")
    assert_same(start, [next(files)], 3)


def assert_same(start, files, workers):
    one = start(WHOLE, *files)
    several = start(WHOLE, *files, "--workers", workers)
    assert (ended(one), ended(several)) == (0, 0), several
    assert one.lines
    assert sorted(several.lines) == sorted(one.lines)
    assert notes(several) == notes(one)


def test_only_worker_of_a_capture_says_what_a_run_without_says(start):
    assert_same(start, [CAPTURES / "http_v4_loss.pcap"], 1)


# ---- what befalls one ----------------------------------------------------------------------------

KILLS = (
    WHOLE
    + """
@app.tcp()
async def kills(flow):
    if rss.worker_of(flow.key, 2) == 1:
        os.kill(os.getpid(), 9)
"""
)


def test_worker_killed_in_the_middle_of_a_capture_is_told_of_and_the_other_one_finishes(start):
    run = start(KILLS, CAPTURES / "http_demo.pcap", "--workers", 2)
    assert ended(run) == 1
    told = [line for line in run.err.splitlines() if "worker 1" in line]
    assert told == ["aiomos: worker 1 was killed by SIGKILL: what its flows had to say is lost"], (
        run
    )
    whole = start(WHOLE, CAPTURES / "http_demo.pcap")
    assert ended(whole) == 0
    assert 0 < len(run.lines) < len(whole.lines)
    assert set(run.lines) < set(whole.lines)


def test_app_that_cannot_be_imported_is_told_of_in_one_line(start):
    run = start("import no_such_module_at_all\n", CAPTURES / "dns.pcap", "--workers", 2)
    assert ended(run) == 2
    (line,) = notes(run)
    assert "app.py: ModuleNotFoundError: No module named 'no_such_module_at_all'" in line


def test_app_that_cannot_be_served_is_told_of_in_one_line(start):
    text = WHOLE + '\n@app.tcp("port")\nasync def bad(flow): pass\n'
    run = start(text, CAPTURES / "dns.pcap", "--workers", 2)
    assert ended(run) == 2, run
    assert all(line for line in notes(run) if "Traceback" not in line)


def test_lifespan_that_raises_ends_the_run(start):
    run = start(WHOLE + LIFESPAN.format("1 / 0"), CAPTURES / "dns.pcap", "--workers", 2)
    assert ended(run) == 1
    assert run.lines == []
    assert "ended with status 1 before it began" in run.err
    assert "ZeroDivisionError" in run.err


def test_lifespan_that_raises_in_one_worker_ends_the_others(start, tmp_path):
    """Two workers want one port, say; without an end, the first one would wait for ever."""
    only_one = f"(await __import__('asyncio').sleep(0), open({str(tmp_path / 'lock')!r}, 'x'))"
    text = WHOLE + LIFESPAN.format(only_one) + WAITS
    run = start(text, CAPTURES / "http_demo.pcap", "--workers", 2, "--io-patience", 10**6)
    assert ended(run) == 1, run
    assert run.err.count("before it began") == 1


#: Holds capture time, and so the run, by real work: until the run is over, or for ever.
WAITS = """
import asyncio

@app.tcp()
async def waits(flow):
    child = await asyncio.create_subprocess_exec("sleep", "3600")
    print("waits", os.getpid(), child.pid, flush=True)
    try:
        await child.wait()
    finally:
        child.terminate()
"""
WAITS_IN_A_BLOCK = """
@app.tcp()
async def blocks(flow):
    print("waits", os.getpid(), 0, flush=True)
    __import__("time").sleep(3600)
"""
HOLDING = ("--workers", 2, "--io-patience", 10**6, "--stall", "off")


def waiting(run, workers=2):
    """Until so many workers hold; their numbers, and those of all their children."""
    run.until(lambda: len({row[1] for row in told(run)}) == workers)
    rows = told(run)
    return {int(row[1]) for row in rows}, {int(row[2]) for row in rows} - {0}


def told(run):
    return [line.split() for line in run.lines if line.startswith("waits ")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_workers_in_order(start, number):
    run = start(WHOLE + WAITS, CAPTURES / "http_demo.pcap", *HOLDING)
    workers, _ = waiting(run)
    assert run.end(number) == 0, run
    assert "packets processed" in run.err
    assert "Traceback" not in run.err
    children = {int(row[2]) for row in told(run)}
    live.until(lambda: all(map(is_gone, workers | children)))


def test_signal_to_all_processes_of_a_terminal_is_the_supervisors(start):
    """^C reaches the workers too, as does a second one; they leave it to the supervisor."""
    run = start(WHOLE + WAITS, CAPTURES / "http_demo.pcap", *HOLDING)
    workers, _ = waiting(run)
    for _ in range(3):
        for pid in workers:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
    assert not any(map(is_gone, workers))
    assert run.end() == 0, run
    assert "Traceback" not in run.err


def test_second_signal_ends_workers_that_block_at_once(start):
    text = WHOLE + WAITS_IN_A_BLOCK
    run = start(text, CAPTURES / "http_demo.pcap", *HOLDING, "--drain", 10**6)
    workers, _ = waiting(run)
    run.send(signal.SIGINT)
    time.sleep(2)  # else both may be one to a machine that is busy
    assert not any(map(is_gone, workers))
    run.send(signal.SIGINT)
    assert ended(run) == 1, run
    live.until(lambda: all(map(is_gone, workers)))
    assert "Traceback" not in run.err


def test_workers_that_block_have_their_time_to_drain(start):
    text = WHOLE + WAITS_IN_A_BLOCK
    run = start(text, CAPTURES / "http_demo.pcap", *HOLDING, "--drain", 0.5)
    workers, _ = waiting(run)
    assert run.end(signal.SIGTERM) == 1
    live.until(lambda: all(map(is_gone, workers)))


def test_supervisor_killed_workers_end_by_themselves_in_order(start):
    run = start(WHOLE + WAITS, CAPTURES / "http_demo.pcap", *HOLDING)
    workers, children = waiting(run)
    run.process.kill()
    run.process.wait(live.PATIENCE)
    live.until(lambda: all(map(is_gone, workers | children)), lambda: run)
    assert "Traceback" not in run.err


def test_worker_killed_while_a_child_of_its_goes_on_is_noticed(start):
    """A child that was forked has the worker's end of the channel, which it keeps open."""
    forks = (
        WHOLE
        + """
import time
@app.tcp()
async def forks(flow):
    if rss.worker_of(flow.key, 2) == 1:
        if (child := os.fork()) == 0:
            time.sleep(3600)
        print("waits", os.getpid(), child, flush=True)
        os.kill(os.getpid(), 9)
"""
    )
    run = start(forks, CAPTURES / "http_demo.pcap", "--workers", 2)
    _, (child,) = waiting(run, 1)
    try:
        assert ended(run) == 1, run
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("flush", [True, False])
def test_reader_of_the_output_goes_away_and_the_run_ends_quietly(start, tmp_path, flush):
    prints = WHOLE.replace("flow.midstream)", f"flow.midstream, flush={flush})")
    app = tmp_path / "closed.py"
    app.write_text(prints + WAITS if flush else prints)
    words = [sys.executable, "-m", "aiomos.cli", "run", app, CAPTURES / "http_demo.pcap"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*map(str, words), *map(str, HOLDING)],
            stdout=writing, stderr=subprocess.PIPE, text=True, timeout=live.PATIENCE,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.returncode == 1
    # asyncio says so of a program whose end nobody waits for any more
    told = [line for line in done.stderr.splitlines() if "that handles pid" not in line]
    assert [line for line in told if " cores" not in line] == []


# ---- cores ---------------------------------------------------------------------------------------

CORES = WHOLE + LIFESPAN.format('print("cores", *sorted(os.sched_getaffinity(0)))')


@pytest.mark.skipif(len(cores_of_this_machine()) < 2, reason="needs two cores")
def test_each_worker_runs_on_a_core_of_its_own(start):
    first, second = cores_of_this_machine()[:2]
    run = start(CORES, CAPTURES / "dns.pcap", "--cores", f"{second},{first}")
    assert ended(run) == 0, run
    cores = {line for line in run.lines if line.startswith("cores")}
    assert cores == {f"cores {first}", f"cores {second}"}


@pytest.mark.parametrize("text", ["x", "1-", "-1", "5-2", "0,0", "0-1,1", "1,,2", "0-99999999999"])
def test_list_of_cores_that_is_none_is_refused(start, text):
    run = start(CORES, CAPTURES / "dns.pcap", f"--cores={text}")
    assert ended(run) == 2
    assert f"--cores {text}: " in run.err
    assert run.lines == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--cores", "65000"), "there is no core 65000 for this process"),
        (("--workers", 0), "0 is not in the range"),
        (("--workers", 129), "129 is not in the range"),
        (("--workers", 2, "-r", "-"), "standard input can be read by one process only"),
        (("--workers", 2, "-r", "absent.pcap"), "absent.pcap"),
        (("--workers", 2, "-f", "port"), "port"),
        (("--workers", 2, "--set", "memory=none"), "memory"),
    ],
)
def test_what_workers_cannot_do_is_refused(start, args, said):
    run = start(WHOLE, CAPTURES / "dns.pcap", *args)
    assert ended(run) == 2, run
    assert said in run.err
    assert "Traceback" not in run.err


def test_capture_cut_off_is_told_once_and_strictly_it_fails(start, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes((CAPTURES / "http_demo.pcap").read_bytes()[:-7])
    one = start(WHOLE, cut, "--strict")
    several = start(WHOLE, cut, "--strict", "--workers", 2)
    assert (ended(one), ended(several)) == (1, 1)
    assert sorted(several.lines) == sorted(one.lines)
    assert notes(several) == notes(one)
