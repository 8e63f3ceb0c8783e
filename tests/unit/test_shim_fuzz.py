"""Damaged captures: thousands of them, read in this process without harm."""

from __future__ import annotations

import gzip
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from aiomos._engine.errors import SourceError
from aiomos._engine.source import open_files, read_all
from aiomos._engine.writer import Writer

ROUNDS = int(os.environ.get("AIOMOS_FUZZ_ROUNDS", "1500"))
ENDS = {-1, -2, -8}

INTERESTING = [0, 1, 3, 4, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 24]


def write(path: Path, format: str) -> bytes:
    rng = random.Random(format)
    with Writer(path, format) as writer:
        for i in range(12):
            writer.write((rng.randbytes(rng.choice([0, 1, 60, 300])), i * 10**9))
    return path.read_bytes()


def damage(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + 4] = struct.pack("<I", rng.choice(INTERESTING))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            out[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            out[at:at] = out[rng.randrange(len(out)) :][: rng.randrange(200)]
        out = out or bytearray(b"\0")
    return bytes(out)


def survives(paths: list[Path], window: int) -> int:
    try:
        source = open_files(paths, window_size=window)
    except SourceError:
        return 0
    with source:
        frames = read_all(source, check=False)
        assert source.result in ENDS
        assert (source.message == "") == (source.result == -1)
        assert source.stats().outstanding == 0
        assert source.stats().frames == len(frames)
        return len(frames)


def fuzz(tmp_path: Path, format: str, pack: Callable[[bytes], bytes], rounds: int) -> None:
    content = write(tmp_path / "good", format)
    total = 0
    for seed in range(rounds):
        rng = random.Random(f"{format}{seed}")
        bad = tmp_path / "bad"
        bad.write_bytes(pack(damage(content, rng)))
        paths = [bad] if seed % 4 else [bad, tmp_path / "good"]
        total += survives(paths, rng.choice([0, 64, 500]))
    assert total > rounds


@pytest.mark.parametrize("format", ["pcap", "pcap-ns", "pcapng"])
def test_damaged_captures_are_survived(tmp_path: Path, format: str) -> None:
    fuzz(tmp_path, format, bytes, ROUNDS)


def test_damaged_captures_within_gzip_are_survived(tmp_path: Path) -> None:
    fuzz(tmp_path, "pcapng", lambda data: gzip.compress(data, 1), ROUNDS // 5)


def test_damaged_gzip_is_survived(tmp_path: Path) -> None:
    packed = gzip.compress(write(tmp_path / "good", "pcap"))
    for seed in range(ROUNDS // 2):
        bad = tmp_path / "bad"
        bad.write_bytes(damage(packed, random.Random(seed)))
        survives([bad], 64)
