"""Engine, run and replay: sources, filters, writers, limits, summaries."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import START, Tape, both_tasks, frames_of, play, tape_of, whole

import aiomos

pytestmark = both_tasks
TWO = (whole(b"abc"), whole(b"defg"))


def sizes(source, *, tasks, **options):
    found = []

    async def handler(flow):
        found.append(len(await flow.client.read()))

    summary = aiomos.run(handler, source, tasks=tasks, **options)
    return found, summary


def test_path_string_and_list_are_sources(tasks, tmp_path):
    path = tape_of(*TWO).write(tmp_path / "a.pcap")
    for source in (path, str(path), [path], (str(path),)):
        assert sizes(source, tasks=tasks)[0] == [3, 4]


def test_files_are_merged_by_time(tasks, tmp_path):
    tape = tape_of(*TWO)
    first, second = Tape(), Tape()
    for number, frame in enumerate(tape.in_order()):
        (first if number % 3 else second).frames.append(frame)
    paths = [first.write(tmp_path / "a.pcap"), second.write(tmp_path / "b.pcapng")]
    found, summary = sizes(paths, tasks=tasks)
    assert found == [3, 4]
    assert summary.processed == len(tape.frames)
    assert sizes(paths[::-1], tasks=tasks)[0] == [3, 4]


def test_missing_file_is_a_source_error(tasks, tmp_path):
    with pytest.raises(aiomos.SourceError) as caught:
        aiomos.run(aiomos.App(), tmp_path / "absent.pcap", tasks=tasks)
    assert isinstance(caught.value, OSError)


def test_filter_lets_through_what_passes_and_counts_the_rest(tasks):
    found, summary = sizes(tape_of(*TWO).source(), tasks=tasks, filter="port 40001")
    assert found == [4]
    assert (summary.received, summary.filtered, summary.processed) == (7, 7, 7)


def test_filter_that_passes_nothing_ends_well(tasks):
    found, summary = sizes(tape_of(*TWO).source(), tasks=tasks, filter="port 1")
    assert (found, summary.received, summary.filtered) == ([], 0, 14)


def test_filter_that_does_not_compile_is_refused(tasks):
    with pytest.raises(aiomos.FilterError):
        play(aiomos.App(), *TWO, tasks=tasks, filter="prt 1")


@pytest.mark.parametrize("count", [1, 5, 13, 14, 100])
@pytest.mark.parametrize("burst", [1, 7, 64])
def test_count_stops_after_exactly_so_many(tasks, count, burst):
    _, summary = sizes(tape_of(*TWO).source(), tasks=tasks, count=count, burst=burst)
    assert summary.received == summary.processed == min(count, 14)


def test_count_counts_what_passed_the_filter(tasks):
    _, summary = sizes(tape_of(*TWO).source(), tasks=tasks, count=3, filter="port 40001")
    assert summary.received == 3


@pytest.mark.parametrize("format", ["pcap-ns", "pcapng"])
@pytest.mark.parametrize("burst", [1, 64])
def test_written_frames_read_back_as_those_that_passed(tasks, tmp_path, format, burst):
    path = tmp_path / "out"
    tape = tape_of(*TWO)
    with aiomos.Writer(path, format=format) as writer:
        sizes(tape.source(), tasks=tasks, write=writer, filter="port 40000", burst=burst)
    kept = frames_of(path)
    assert kept == [frame for frame in tape.in_order() if b"\x9c\x40" in frame[0][34:38]]


def test_written_count_is_that_of_the_count(tasks, tmp_path):
    path = tmp_path / "out.pcap"
    with aiomos.Writer(path, format="pcap-ns") as writer:
        sizes(tape_of(*TWO).source(), tasks=tasks, write=writer, count=5)
    assert frames_of(path) == tape_of(*TWO).in_order()[:5]


def test_all_frames_go_back_to_their_source(tasks):
    for options in ({}, {"count": 5}, {"filter": "port 40001"}, {"burst": 1}):
        source = tape_of(*TWO).source(ring=True)
        sizes(source, tasks=tasks, **options)
        assert source.stats().outstanding == 0, options


def test_unknown_options_are_refused(tasks):
    with pytest.raises(TypeError, match="nonsense"):
        play(aiomos.App(), tasks=tasks, nonsense=1)
    with pytest.raises(aiomos.ConfigError, match="tasks"):
        play(aiomos.App(), tasks="threads")


def test_handler_exception_leaves_collector_and_signals_as_they_were(tasks):
    before = gc.get_threshold(), signal.getsignal(signal.SIGINT), gc.get_freeze_count()
    sizes(tape_of(*TWO).source(), tasks=tasks)
    assert (gc.get_threshold(), signal.getsignal(signal.SIGINT), gc.get_freeze_count()) == before


def test_run_in_a_thread_works(tasks):
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(sizes(tape_of(*TWO).source(), tasks=tasks)[0])
    )
    thread.start()
    thread.join(20)
    assert found == [3, 4]


def test_two_replays_at_once_keep_apart(tasks):
    async def main():
        runs = []
        for script in TWO:
            found = []

            async def handler(flow, found=found):
                found.append(await flow.client.read())

            runs.append((found, aiomos.replay(handler, tape_of(script).source(), tasks=tasks)))
        await asyncio.gather(*[run for _, run in runs])
        return [found for found, _ in runs]

    assert asyncio.run(main()) == [[b"abc"], [b"defg"]]


def test_app_that_is_none_is_refused_before_the_source_is_touched(tasks):
    with pytest.raises(aiomos.AppError):
        aiomos.run(print, "no such file", tasks=tasks)


def test_summary_tells_what_the_run_came_to(tasks):
    async def handler(flow):
        if flow.client.port == 40001:
            raise LookupError

    summary = play(handler, *TWO, tasks=tasks)
    assert (summary.received, summary.processed, summary.dropped) == (14, 14, 0)
    assert (summary.handlers_started, summary.handler_errors) == (2, 1)
    assert not summary.cut_off
    lines = summary.lines()
    assert lines[:2] == ["14 packets received by filter", "14 packets processed"]
    assert "2 flows, 2 handled" in lines
    assert "1 handlers failed" in lines
    assert str(summary) == "\n".join(lines)


def test_engine_stopped_in_the_middle_takes_no_further_frame(tasks):
    seen = []

    async def handler(flow):
        await flow.client.read(1)
        engine.stop()
        seen.append(await flow.closed())

    def long(t):
        t.handshake()
        for _ in range(1000):
            t.c(b"x")
            t.rest(1)

    async def main():
        nonlocal engine
        async with aiomos.Engine(tape_of(long).source(), tasks=tasks, burst=1) as engine:
            return await engine.serve(handler)

    engine = None
    summary = asyncio.run(main())
    assert seen == ["SHUTDOWN"]
    assert summary.received < 100


@pytest.mark.replay_loop
def test_handler_that_stops_the_run_on_the_replay_loop_sees_shutdown(tasks):
    seen = []

    async def handler(flow):
        await flow.client.read(1)
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(await flow.closed())

    def long(t):
        t.handshake()
        for _ in range(200_000 // 64):
            t.c(b"x")
            t.rest(1)

    play(handler, long, tasks=tasks, burst=1)
    assert seen == ["SHUTDOWN"]


def test_replayed_clock_begins_at_zero_and_ends_with_the_capture(tasks):
    times = []

    async def handler(flow):
        loop = asyncio.get_running_loop()
        times.append(loop.time())
        await flow.closed()
        times.append(round(loop.time(), 3))

    tape = Tape()
    talk = tape.talk(whole(b"abc"), at=START)
    aiomos.run(handler, tape.source(), tasks=tasks, burst=1)
    assert times[0] == pytest.approx(0.002)
    assert times[1] == round((talk.now - talk.step - START) / 1e9, 3)
