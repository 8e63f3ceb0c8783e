"""The project's own captures: what real programs sent, counted at their sockets."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from kit import aiomos_command

import aiomos
from aiomos.flows import make_app, writer_of

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "captures"
NAMES = sorted(path.name.split(".")[0] for path in CAPTURES.glob("*.truth.json"))


def truth_of(name):
    return json.loads((CAPTURES / f"{name}.truth.json").read_text())


def listing(path, **options):
    out = io.StringIO()
    summary = aiomos.run(make_app(writer_of("jsonl", out), digest="sha256"), path, **options)
    return [json.loads(line) for line in out.getvalue().splitlines()], summary


def key_of(row):
    return row["src"], row["sport"], row["dst"], row["dport"]


def received(path):
    """All bytes of both sides, by connection and side."""
    found = {}
    app = aiomos.App()

    @app.tcp(start="syn", limit=1 << 24)
    async def read(flow):
        key = flow.key
        ends = (key.client, key.client_port, key.server, key.server_port)
        for side, end in (("client", flow.client), ("server", flow.server)):
            data = found[*ends, side] = bytearray()
            with contextlib.suppress(aiomos.FlowReset):
                while more := await end.read(1 << 20):
                    data += more

    aiomos.run(app, path)
    return found


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
@pytest.mark.parametrize("name", NAMES)
def test_every_connection_is_listed_in_order_with_what_its_ends_received(name, tasks):
    truth = truth_of(name)
    rows, summary = listing(CAPTURES / truth["capture"], tasks=tasks)
    assert [key_of(row) for row in rows] == [key_of(row) for row in truth["connections"]]
    for row, want in zip(rows, truth["connections"], strict=True):
        for side in ("client", "server"):
            if want[f"{side}_exact"]:
                assert row[f"{side}_bytes"] == want[f"{side}_bytes"], (key_of(row), side)
                assert row[f"{side}_sha256"] == want[f"{side}_sha256"], (key_of(row), side)
            else:
                least, most = want[f"{side}_bytes"], want[f"{side}_sent_bytes"]
                assert least <= row[f"{side}_bytes"] <= most, (key_of(row), side)
        assert row["end"] in want["end_accept"], key_of(row)
    assert (summary.handler_errors, summary.malformed) == (0, 0)
    assert summary.counters["slow_reader_bytes"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_connection_cut_short_by_a_reset_begins_with_what_was_received(name):
    truth = truth_of(name)
    sides = [(c, s) for c in truth["connections"] for s in ("client", "server")]
    cut = [(c, s) for c, s in sides if not c[f"{s}_exact"]]
    found = received(CAPTURES / truth["capture"]) if cut else {}
    for want, side in cut:
        data = found[*key_of(want), side][: want[f"{side}_bytes"]]
        assert hashlib.sha256(data).hexdigest() == want[f"{side}_sha256"], key_of(want)


@pytest.mark.parametrize("name", NAMES)
def test_midstream_flag_is_set_exactly_where_the_capture_began_later(name):
    truth = truth_of(name)
    rows, _ = listing(CAPTURES / truth["capture"])
    for row, want in zip(rows, truth["connections"], strict=True):
        later = bool(want.get("client_skipped") or want.get("server_skipped"))
        assert row["midstream"] >= later, key_of(row)
        if "client_skipped" not in want:
            assert not row["midstream"], key_of(row)


# ---- the http_log example ----------------------------------------------------------------------

LINE = re.compile(r"(\S+) +(\d+) +(\d+) B +([\d.]+) ms  (\S+) (\S+)")


@pytest.mark.parametrize("tasks", ["engine", "asyncio"])
def test_http_log_prints_exactly_the_requests(tasks):
    truth = truth_of("http_demo")
    capture = CAPTURES / truth["capture"]
    done = aiomos_command("run", ROOT / "examples" / "http_log.py", "-r", capture, "--tasks", tasks)
    assert done.returncode == 0, done.stderr.decode()
    *lines, last = done.stdout.decode().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    printed = Counter((m[1], m[5], m[6], int(m[2]), int(m[3])) for m in found)
    wanted = Counter(
        (row["src"], row["method"], row["path"], row["status"], row["body_bytes"])
        for row in truth["requests"]
    )
    assert printed == wanted
    total = sum(row["body_bytes"] for row in truth["requests"])
    assert last == f"{len(truth['requests'])} requests, {total} bytes of responses"


def test_http_log_prints_the_requests_of_each_connection_in_their_order():
    truth = truth_of("http_demo")
    done = aiomos_command(
        "run", ROOT / "examples" / "http_log.py", "-r", CAPTURES / truth["capture"]
    )
    lines = [LINE.fullmatch(line) for line in done.stdout.decode().splitlines()[:-1]]
    for port in {row["sport"] for row in truth["requests"]}:
        mine = [row for row in truth["requests"] if row["sport"] == port]
        paths = [row["path"] for row in mine]
        own = [m[6] for m in lines if m[6] in paths and m[1] == mine[0]["src"]]
        positions = iter(own)
        assert all(path in positions for path in paths), (port, paths, own)


@pytest.mark.parametrize("name", NAMES)
def test_http_log_runs_over_every_capture_without_an_error(name):
    truth = truth_of(name)
    done = aiomos_command(
        "run", ROOT / "examples" / "http_log.py", "-r", CAPTURES / truth["capture"]
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr, done.stderr.decode()
