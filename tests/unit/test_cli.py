"""The command line: what users see, above all when something is wrong."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from craft import datagram, ethernet
from kit import START, Tape, aiomos_command, frames_of, tape_of, whole

import aiomos
from aiomos._engine.source import RawFrame

APP = """
import aiomos
app = aiomos.App()

@app.tcp()
async def handler(flow):
    print(len(await flow.client.read()))
"""


@pytest.fixture
def capture(tmp_path):
    return tape_of(*[whole(b"a" * 100, b"b" * 200)] * 3).write(tmp_path / "a.pcap")


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "my_app.py"
    path.write_text(APP)
    return path


def one_line(done, status=2):
    """The complaint: one line, nothing on standard output."""
    assert done.returncode == status, done.stderr.decode()
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("aiomos: ")
    return text


# ---- the commands themselves -------------------------------------------------------------------


def test_version_is_that_of_the_package():
    done = aiomos_command("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert importlib.metadata.version("aiomos") in done.stdout.decode()


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["flows", "-h"]])
def test_help_is_printed(arguments):
    done = aiomos_command(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Usage:" in done.stdout


def test_installed_script_is_the_same_program():
    script = Path(sys.executable).with_name("aiomos")
    if not script.exists():
        pytest.skip("aiomos is not installed as a script beside this Python")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=60, check=False)
    assert done.stdout == aiomos_command("--version").stdout


@pytest.mark.parametrize("arguments", [["flows"], ["run"], ["nonsense"], ["flows", "--nonsense"]])
def test_wrong_usage_is_told_and_ends_with_2(arguments):
    done = aiomos_command(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Usage:" in done.stderr


def test_run_without_a_capture_says_how_to_name_one(app):
    assert "-r FILE" in one_line(aiomos_command("run", app))


# ---- handlers that block -----------------------------------------------------------------------

BLOCKS = """
import time
async def handler(flow):
    time.sleep(0.5)
"""


@pytest.fixture
def blocking(tmp_path):
    path = tmp_path / "blocking.py"
    path.write_text(BLOCKS)
    return path


def test_handler_that_blocks_longer_than_stall_is_named(blocking, capture):
    done = aiomos_command("run", blocking, "-r", capture, "-f", "port 40000", "--stall", "0.02")
    assert done.returncode == 0
    assert done.stderr.count(b"has blocked the core for more than 0.02 s") == 1
    assert f"{blocking}:4 in handler: time.sleep(0.5)".encode() in done.stderr


@pytest.mark.parametrize("seconds", ["0", "off", "3600"])
def test_handler_that_blocks_stall_is_off_or_long_nothing_is_said(blocking, capture, seconds):
    done = aiomos_command("run", blocking, "-r", capture, "--stall", seconds, "-q")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("seconds", ["-1", "never", "nan", "inf"])
def test_stall_that_is_no_time_is_told_and_ends_with_2(app, capture, seconds):
    done = aiomos_command("run", app, "-r", capture, "--stall", seconds)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{seconds!r} is neither a number of seconds from 0 up nor 'off'".encode() in done.stderr


# ---- captures that are none --------------------------------------------------------------------


def bad_inputs(tmp_path):
    (tmp_path / "text.pcap").write_text("this is no capture, only a line of text\n" * 10)
    (tmp_path / "empty.pcap").write_bytes(b"")
    (tmp_path / "short.pcap").write_bytes(b"\xd4\xc3\xb2\xa1\x02\x00")
    with aiomos.Writer(tmp_path / "usb.pcap", format="pcap") as writer:
        writer.write(RawFrame(b"x" * 60, START, 60, 220))
    return {
        "missing": (tmp_path / "missing.pcap", "no such file"),
        "directory": (tmp_path, "irectory"),
        "not a capture": (tmp_path / "text.pcap", "capture"),
        "empty": (tmp_path / "empty.pcap", "empty"),
        "short": (tmp_path / "short.pcap", ""),
        "unknown link type": (tmp_path / "usb.pcap", "link type"),
    }


KINDS = ["missing", "directory", "not a capture", "empty", "short", "unknown link type"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["flows", "run"])
def test_bad_capture_is_one_line_that_names_it(tmp_path, app, kind, command):
    path, word = bad_inputs(tmp_path)[kind]
    arguments = ["flows", path] if command == "flows" else ["run", app, "-r", path]
    text = one_line(aiomos_command(*arguments, "-q"))
    assert str(path) in text
    assert word in text


def test_unreadable_capture_is_one_line(tmp_path, capture):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    capture.chmod(0)
    assert "ermission" in one_line(aiomos_command("flows", capture))


def test_one_bad_capture_among_good_ones_is_named(tmp_path, capture):
    text = one_line(aiomos_command("flows", capture, tmp_path / "missing.pcap"))
    assert "missing.pcap" in text


def test_output_that_cannot_be_written_is_one_line(tmp_path, capture):
    text = one_line(aiomos_command("flows", capture, "-o", tmp_path / "no" / "such" / "place"))
    assert "cannot write" in text


def test_capture_to_be_written_that_cannot_be_is_one_line(tmp_path, capture, app):
    where = tmp_path / "no" / "place.pcap"
    text = one_line(aiomos_command("run", app, "-r", capture, "-w", where))
    assert "place.pcap" in text


def test_unknown_digest_is_one_line(capture):
    assert "sha999" in one_line(aiomos_command("flows", capture, "--digest", "sha999"))


def test_unknown_link_type_among_others_is_counted_not_refused(tmp_path):
    path = tmp_path / "mixed.pcapng"
    with aiomos.Writer(path, format="pcapng") as writer:
        writer.write(RawFrame(b"x" * 60, START, 60, 220))
        for frame in tape_of(whole(b"abc")).in_order():
            writer.write(frame)
    done = aiomos_command("flows", path, "--format", "jsonl", "-q")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


# ---- filters -----------------------------------------------------------------------------------


def test_filter_that_does_not_compile_shows_where(capture):
    done = aiomos_command("flows", capture, "-f", "tcp and prt 80")
    assert (done.returncode, done.stdout) == (2, b"")
    first, expression, caret = done.stderr.decode().splitlines()
    assert first.startswith("aiomos: ")
    assert "tcp and prt 80" in expression
    assert caret.strip("^~ ") == ""
    at = caret.index("^")
    assert expression[at:].startswith("prt")


def test_filter_of_a_handler_that_does_not_compile_names_it(tmp_path, capture):
    path = tmp_path / "app.py"
    path.write_text(APP.replace("app.tcp()", "app.tcp('prt 80')"))
    done = aiomos_command("run", path, "-r", capture)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"prt 80" in done.stderr
    assert b"Traceback" not in done.stderr


def test_filter_of_a_handler_that_no_flow_can_answer_says_so(tmp_path, capture):
    path = tmp_path / "app.py"
    path.write_text(APP.replace("app.tcp()", "app.tcp('tcp[20:4] = 0x47455420')"))
    done = aiomos_command("run", path, "-r", capture)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


def test_filter_of_the_run_leaves_out_what_does_not_pass(capture):
    done = aiomos_command("flows", capture, "-f", "port 40001", "--format", "jsonl")
    assert [json.loads(line)["sport"] for line in done.stdout.splitlines()] == [40001]


# ---- apps --------------------------------------------------------------------------------------

BAD_APPS = {
    "syntax": ("def broken(:\n", "syntax"),
    "raises": ("raise LookupError('by intent')\n", "LookupError: by intent (line 1 of bad.py)"),
    "import": ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
    "exits": ("import sys; sys.exit('gone')\n", "gone"),
    "no app": ("x = 1\n", "no app"),
    "plain function": ("def handler(flow): pass\n", "neither"),
    "two apps": ("import aiomos\na = aiomos.App()\nb = aiomos.App()\n", "2 apps"),
    "plain handler": (APP.partition("async")[0] + "def f(flow): pass\n", "no coroutine function"),
    "no parentheses": (APP.replace("@app.tcp()", "@app.tcp"), "parentheses"),
    "bad option": (APP.replace("app.tcp()", "app.tcp(start='x')"), "start='x'"),
}


@pytest.mark.parametrize("kind", BAD_APPS)
def test_app_that_is_none_is_one_line(tmp_path, capture, kind):
    text, word = BAD_APPS[kind]
    path = tmp_path / "bad.py"
    path.write_text(text)
    complaint = one_line(aiomos_command("run", path, "-r", capture))
    assert str(path) in complaint
    assert word in complaint


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("no_such_module", "no_such_module"),
        ("no/such/file.py", "no such file"),
        ("no_such_module:app", "no_such_module"),
        ("json:nothing", "nothing"),
        ("json:dumps", "neither"),
        ("json", "no app"),
    ],
)
def test_app_that_cannot_be_found_is_one_line(capture, name, word):
    assert word in one_line(aiomos_command("run", name, "-r", capture))


@pytest.mark.parametrize("name", ["my_app", "my_app:app", "my_app:handler", "my_app.py:app"])
def test_app_is_found_by_module_and_by_file(tmp_path, capture, app, name):
    done = aiomos_command("run", name, "-r", capture, cwd=tmp_path)
    assert done.stdout == b"100\n" * 3, done.stderr


# ---- damaged captures --------------------------------------------------------------------------


def test_capture_cut_in_the_middle_is_processed_and_warned_of(tmp_path, capture):
    content = capture.read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(content[: len(content) * 2 // 3])
    done = aiomos_command("flows", cut, "--format", "jsonl")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert b"warning" in done.stderr
    assert str(cut).encode() in done.stderr
    strict = aiomos_command("flows", cut, "--format", "jsonl", "--strict")
    assert (strict.returncode, strict.stdout) == (1, done.stdout)


def test_malformed_packets_are_counted_and_do_no_harm(tmp_path):
    tape = tape_of(whole(b"abc"))
    good = tape.in_order()
    tape.add(ethernet(b"\x45" + b"\0" * 10), START + 1)
    tape.add(good[0][0][:40], START + 2)
    path = tape.write(tmp_path / "a.pcap")
    done = aiomos_command("flows", path, "--format", "jsonl")
    assert done.returncode == 0
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["client_bytes"] == 3
    assert b"2 packets malformed" in done.stderr


def test_record_of_impossible_length_ends_the_capture_with_an_error(tmp_path, capture):
    content = capture.read_bytes() + struct.pack("<IIII", 1, 1, 0xFFFFFFF0, 0xFFFFFFF0) + b"x" * 99
    path = tmp_path / "corrupt.pcap"
    path.write_bytes(content)
    done = aiomos_command("flows", path, "--format", "jsonl")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert b"Traceback" not in done.stderr


# ---- results and where they go -----------------------------------------------------------------


def test_results_go_to_standard_output_and_everything_else_to_standard_error(capture, app):
    done = aiomos_command("run", app, "-r", capture)
    assert (done.returncode, done.stdout) == (0, b"100\n" * 3)
    assert b"packets processed" in done.stderr
    quiet = aiomos_command("run", app, "-r", capture, "-q")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, b"")


def test_flows_formats_tell_the_same(capture):
    jsonl = aiomos_command("flows", capture, "--digest", "sha256", "--format", "jsonl").stdout
    rows = [json.loads(line) for line in jsonl.splitlines()]
    assert [row["client_bytes"] for row in rows] == [100] * 3
    text = aiomos_command("flows", capture, "--digest", "sha256", "--format", "csv").stdout.decode()
    table = list(csv.DictReader(io.StringIO(text)))
    assert [{k: str(v) for k, v in row.items()} for row in rows] == table
    shown = aiomos_command("flows", capture, "--digest", "sha256").stdout.decode()
    assert "10.0.0.1:40002" in shown
    assert rows[0]["client_sha256"] in shown
    head, *lines = [line for line in shown.splitlines() if "sha256" not in line]
    assert len(lines) == 3
    assert head.split()[:3] == ["proto", "client", "server"]


def test_flows_of_a_capture_without_flows_is_empty_and_well(tmp_path):
    path = Tape().write(tmp_path / "none.pcap")
    for format in ("table", "jsonl", "csv"):
        done = aiomos_command("flows", path, "--format", format)
        assert done.returncode == 0, done.stderr


def test_flows_writes_into_a_file(tmp_path, capture):
    out = tmp_path / "out.jsonl"
    done = aiomos_command("flows", capture, "--format", "jsonl", "-o", out)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(out.read_text().splitlines()) == 3


def test_flows_lists_udp_when_asked(tmp_path):
    tape = Tape()
    tape.add(datagram(b"question"), START)
    tape.add(datagram(b"answers", ("10.0.0.2", 53), ("10.0.0.1", 5000)), START + 1000)
    path = tape.write(tmp_path / "udp.pcap")
    assert aiomos_command("flows", path, "--format", "jsonl").stdout == b""
    done = aiomos_command("flows", path, "--format", "jsonl", "--udp")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["proto"], line["client_bytes"], line["server_bytes"]) == ("udp", 8, 7)


def test_capture_from_standard_input_gives_the_same_as_from_a_file(capture):
    from_file = aiomos_command("flows", capture, "--digest", "md5", "--format", "jsonl").stdout
    options = ["--digest", "md5", "--format", "jsonl"]
    with open(capture, "rb") as stream:
        assert aiomos_command("flows", "-", *options, stdin=stream).stdout == from_file
    piped = aiomos_command("flows", "-", *options, input=capture.read_bytes())
    assert piped.stdout == from_file


def test_several_captures_are_merged_by_time(tmp_path, capture):
    other = Tape()
    other.talk(whole(b"x"), client=("10.0.0.9", 999), at=START + 500)
    path = other.write(tmp_path / "b.pcap")
    done = aiomos_command("flows", path, capture, "--format", "jsonl")
    ports = [json.loads(line)["sport"] for line in done.stdout.splitlines()]
    assert ports == [40000, 999, 40001, 40002]


def test_count_stops_after_so_many_packets(capture):
    done = aiomos_command("flows", capture, "-c", "4", "--format", "jsonl")
    assert b"4 packets processed" in done.stderr


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_written_capture_reads_back_as_the_frames_that_passed(tmp_path, capture, app, suffix):
    out = tmp_path / f"out{suffix}"
    done = aiomos_command("run", app, "-r", capture, "-w", out, "-f", "port 40001", "-q")
    assert done.returncode == 0, done.stderr
    wanted = [frame for frame in frames_of(capture) if b"\x9c\x41" in frame[0][34:38]]
    assert frames_of(out) == wanted
    assert wanted


def test_written_packets_are_cut_to_the_snap_length(tmp_path, capture, app):
    out = tmp_path / "out.pcap"
    aiomos_command("run", app, "-r", capture, "-w", out, "-s", "60")
    assert max(len(data) for data, _ in frames_of(out)) == 60
    assert len(frames_of(out)) == len(frames_of(capture))


def test_handler_that_raises_is_told_with_its_traceback_and_the_run_goes_on(tmp_path, capture):
    path = tmp_path / "raises.py"
    path.write_text(APP + "    if flow.client.port == 40001: raise LookupError('by intent')\n")
    done = aiomos_command("run", path, "-r", capture)
    assert done.stdout == b"100\n" * 3
    text = done.stderr.decode()
    assert "handler handler failed on <Flow 2 " in text
    assert "LookupError: by intent" in text
    assert "1 handlers failed" in text


# ---- signals and pipes that break --------------------------------------------------------------


@pytest.fixture
def long_capture(tmp_path):
    tape = Tape()
    for number in range(3000):
        tape.talk(whole(b"a"), client=("10.0.0.1", 1024 + number), at=START + number * 10_000_000)
    return tape.write(tmp_path / "long.pcap")


@pytest.mark.parametrize("format", ["table", "jsonl", "csv"])
def test_reader_of_standard_output_that_goes_away_ends_the_run_quietly(long_capture, format):
    command = f"{sys.executable} -m aiomos.cli flows {long_capture} --format {format} | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == b""


def test_reader_of_an_apps_output_that_goes_away_ends_the_run_quietly(long_capture, app):
    command = f"{sys.executable} -m aiomos.cli run {app} -r {long_capture} -q | head -n 2"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == b""


@pytest.mark.parametrize(("value", "expected"), [("1", b"begun\n"), ("", b"")])
def test_output_is_by_lines_where_python_is_told_not_to_buffer(tmp_path, value, expected):
    """What the app prints is there at once, though it does not flush; else when it ends."""
    path = tmp_path / "app.py"
    path.write_text(
        "import os\nimport aiomos\napp = aiomos.App()\n@app.tcp()\nasync def handler(flow):\n"
        "    print('begun')\n    os._exit(7)\n"
    )
    content = tape_of(whole(b"abc")).write(tmp_path / "p.pcap")
    environment = {**os.environ, "PYTHONUNBUFFERED": value}
    done = aiomos_command("run", path, "-r", content, env=environment)
    assert (done.returncode, done.stdout) == (7, expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_in_the_middle_ends_with_the_summary(tmp_path, capture, number):
    """The capture comes through a pipe that stays open, so the run is in its middle."""
    path = tmp_path / "app.py"
    path.write_text(
        "import aiomos\napp = aiomos.App()\n@app.tcp()\nasync def handler(flow):\n"
        "    print('begun', flush=True)\n    print(await flow.closed(), flush=True)\n"
    )
    content = tape_of(lambda t: (t.handshake(), t.c(b"abc"))).write(tmp_path / "p.pcap")
    command = [sys.executable, "-m", "aiomos.cli", "run", str(path), "-r", "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        process.stdin.write(content.read_bytes())
        process.stdin.flush()
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        process.send_signal(number)
        try:
            process.wait(10)  # the pipe to it stays open
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        out, err = process.stdout.read(), process.stderr.read()
    assert out == b"SHUTDOWN\n"
    assert b"4 packets processed" in err
    assert b"Traceback" not in err
    assert process.returncode in (0, 1, 128 + number)
