"""Where captures come from: files that are none, gzip, pipes, standard input."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.source import Source, open_files, read_all

END, CUT, ENOTCAPTURE, CORRUPT = -1, -2, -4, -8

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def record(i: int, size: int = 60) -> bytes:
    return struct.pack("<IIII", 1000, i, size, size) + bytes([i % 256]) * size


def capture(n: int = 100) -> bytes:
    return HEADER + b"".join(record(i) for i in range(n))


# ---- what cannot be opened


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file") as raised:
        open_files([tmp_path / "missing.pcap"])
    assert raised.value.errno == errno.ENOENT
    assert raised.value.filename == str(tmp_path / "missing.pcap")
    assert isinstance(raised.value, OSError)


def test_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a directory") as raised:
        open_files(tmp_path)
    assert raised.value.errno == errno.EISDIR


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "locked.pcap"
    path.write_bytes(capture())
    path.chmod(0)
    with pytest.raises(SourceError, match="permission denied"):
        open_files(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file: not a capture"),
        (b"abc", "not a capture: it has only 3 bytes"),
        (b"\x7fELF" + bytes(100), r"not a pcap or pcapng file \(first bytes 7f 45 4c 46\)"),
        (b"\x28\xb5\x2f\xfd" + bytes(50), "compressed; unpack it with zstd -dc and read from -"),
        (b"\xfd7zXZ\0" + bytes(50), "xz -dc"),
        (b"\x0a\x0d\x0d\x0a" + bytes(50), "block at byte 0 is damaged"),
        (gzip.compress(b""), "empty file: not a capture"),
        (gzip.compress(b"hello world"), "first bytes 68 65 6c 6c"),
        (b"\x1f\x8b", "gzip data ends early"),
    ],
)
def test_file_that_is_no_capture_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as raised:
        open_files(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_bad_file_of_several_closes_the_others(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(capture())
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SourceError, match="missing"):
        open_files([tmp_path / "good", tmp_path / "missing"])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("paths", [[], ()])
def test_no_file_is_an_error(paths: list[str]) -> None:
    with pytest.raises(SourceError, match="no capture file"):
        open_files(paths)


def test_path_with_nul_is_an_error() -> None:
    with pytest.raises(SourceError, match="NUL"):
        open_files("a\0b")


def test_source_has_no_constructor() -> None:
    with pytest.raises(TypeError, match="open_files"):
        Source()


def test_closed_source_refuses_and_keeps_its_counters(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(capture())
    with open_files(path) as source:
        read_all(source)
    source.close()
    assert source.closed
    assert source.stats().frames == 100
    with pytest.raises(SourceError, match="closed"):
        source.take()


def test_ended_source_gives_its_descriptor_back(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(capture())
    before = len(os.listdir("/proc/self/fd"))
    with open_files(path) as source:
        assert len(os.listdir("/proc/self/fd")) == before + 1
        read_all(source)
        assert len(os.listdir("/proc/self/fd")) == before


# ---- gzip


def read(path: Path, content: bytes, **options: int) -> tuple[list[bytes], int, str]:
    path.write_bytes(content)
    with open_files(path, **options) as source:
        frames = read_all(source, check=False)
        return [f.data for f in frames], source.result, source.message


@pytest.mark.parametrize("window", [0, 64, 1000])
def test_gzip_gives_the_same_frames(tmp_path: Path, window: int) -> None:
    plain = read(tmp_path / "plain", capture())
    packed = read(tmp_path / "packed", gzip.compress(capture()), window_size=window)
    assert packed == plain


def test_gzip_members_in_a_row_are_one_input(tmp_path: Path) -> None:
    content = capture()
    cuts = [0, 3, 24, 24, 1000, len(content)]
    packed = b"".join(gzip.compress(content[a:b]) for a, b in itertools.pairwise(cuts))
    assert len(read(tmp_path / "packed", packed)[0]) == 100
    frames, result, _ = read(tmp_path / "padded", packed + bytes(512))
    assert (len(frames), result) == (100, END)


def test_gzip_cut_at_every_offset_is_told(tmp_path: Path) -> None:
    packed = gzip.compress(capture(10))
    for size in range(2, len(packed)):
        message = ""
        try:
            frames, result, message = read(tmp_path / "cut", packed[:size])
            assert result == CUT
            assert frames == [bytes([i]) * 60 for i in range(len(frames))]
        except SourceError as error:
            message = str(error)
        assert "gzip data ends early" in message


def test_gzip_damage_is_told_after_what_precedes(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    good = packer.compress(capture(50)) + packer.flush(zlib.Z_FULL_FLUSH)
    frames, result, message = read(tmp_path / "bad", good + b"\x07" * 100)
    assert (len(frames), result) == (50, CORRUPT)
    assert "gzip data is damaged" in message


def test_gzip_bursts_are_filled_and_memory_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "big.gz"
    path.write_bytes(gzip.compress(capture(2000)))
    with open_files(path, window_size=1000) as source:
        assert source.ring
        sizes = []
        while frames := source.take():
            sizes.append(len(frames))
            for frame in frames:
                frame.release()
    assert sizes == [64] * 31 + [16]
    assert source.stats().input_pos == source.stats().input_size == path.stat().st_size


# ---- pipes


class Pipe:
    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        opened: list[int] = []
        opener = threading.Thread(target=lambda: opened.append(os.open(path, os.O_WRONLY)))
        opener.start()
        self.source = open_files(path)
        opener.join()
        self.fd = opened[0]

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "fifo")
    yield pipe
    pipe.close()
    pipe.source.close()


def take(source: Source, n: int = 64) -> list[bytes]:
    data = []
    for frame in source.take(n):
        data.append(frame.data)
        frame.release()
    return data


def test_pipe_gives_a_frame_as_soon_as_it_is_complete(pipe: Pipe) -> None:
    pipe.write(HEADER + record(0) + record(1)[:50])
    assert take(pipe.source) == [bytes(60)]
    pipe.write(record(1)[50:])
    assert take(pipe.source) == [b"\x01" * 60]
    for i in range(2, 20):
        pipe.write(record(i))
        assert take(pipe.source) == [bytes([i]) * 60]
    pipe.close()
    assert take(pipe.source) == []
    assert pipe.source.result == END


def test_pipe_is_a_ring_of_unknown_size_not_live(pipe: Pipe) -> None:
    assert pipe.source.ring
    assert not pipe.source.live
    assert pipe.source.stats().input_size == 0


def test_pipe_descriptor_is_readable_when_more_came(pipe: Pipe) -> None:
    pipe.write(capture(10))
    assert len(take(pipe.source, 4)) == 4
    assert len(take(pipe.source)) == 6
    fd = pipe.source.fileno()
    assert select.select([fd], [], [], 0)[0] == []
    pipe.write(record(10))
    assert select.select([fd], [], [], 1)[0] == [fd]
    assert len(take(pipe.source)) == 1


def test_pipe_written_byte_by_byte_gives_all_frames(pipe: Pipe) -> None:
    content = gzip.compress(capture(20))

    def feed() -> None:
        for byte in content:
            pipe.write(bytes([byte]))
        pipe.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    frames = read_all(pipe.source)
    feeder.join()
    assert [f.data for f in frames] == [bytes([i]) * 60 for i in range(20)]


def test_pipe_that_is_no_capture_says_so_when_read(pipe: Pipe) -> None:
    pipe.write(b"GET / HTTP/1.1\r\n")
    assert take(pipe.source) == []
    assert pipe.source.result == ENOTCAPTURE
    assert "first bytes 47 45 54 20" in pipe.source.message


def test_pipe_cut_in_a_record_says_so(pipe: Pipe) -> None:
    pipe.write(capture(3)[:-1])
    pipe.close()
    assert len(read_all(pipe.source, check=False)) == 2
    assert pipe.source.result == CUT


def test_pipe_with_long_and_short_records(pipe: Pipe) -> None:
    sizes = [60, 1 << 20, 0, 3_000_000, 1500] * 3

    def feed() -> None:
        with os.fdopen(pipe.fd, "wb") as file:
            file.write(HEADER + b"".join(record(i, n) for i, n in enumerate(sizes)))
        pipe.fd = -1

    feeder = threading.Thread(target=feed)
    feeder.start()
    frames = read_all(pipe.source)
    feeder.join()
    assert [f.data for f in frames] == [bytes([i]) * n for i, n in enumerate(sizes)]


# ---- standard input

COUNT = """
from aiomos._engine.source import open_files, read_all
with open_files("-") as source:
    frames = read_all(source, check=False)
    print(len(frames), source.result, int(source.ring), source.stats().input_size)
"""


def run(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_standard_input_from_a_pipe() -> None:
    done = subprocess.run(
        run(COUNT), input=capture(5000), capture_output=True, check=True, env=environment()
    )
    assert done.stdout.split() == [b"5000", b"-1", b"1", b"0"]


def test_standard_input_from_a_file_is_read_by_position(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(b"passed over" + capture(50))
    with path.open("rb", buffering=0) as file:
        file.seek(11)
        done = subprocess.run(
            run(COUNT), stdin=file, capture_output=True, check=True, env=environment()
        )
    assert done.stdout.split() == [b"50", b"-1", b"0", str(path.stat().st_size).encode()]


def test_interrupt_ends_the_wait_for_a_pipe() -> None:
    process = subprocess.Popen(
        run("print('ready', flush=True)" + COUNT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdout.readline()
        process.stdin.write(capture(3)[:-1])
        process.stdin.flush()
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.stderr.read()
