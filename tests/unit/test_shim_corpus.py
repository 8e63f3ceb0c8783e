"""Real captures, frame by frame against scapy's reader and in sum against capinfos."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomos._engine.source import RawFrame, open_files, read_all

utils = pytest.importorskip("scapy.utils")


def corpus() -> list[Path]:
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
    folder = Path(os.environ.get("AIOMOS_CORPUS", beside))
    return sorted(p for p in folder.rglob("*.pcap*") if p.suffix in (".pcap", ".pcapng"))


CAPTURES = corpus()
pytestmark = pytest.mark.skipif(not CAPTURES, reason="no corpus (AIOMOS_CORPUS)")

Seen = tuple[bytes, int, int]


def by_scapy(path: Path) -> Iterator[Seen]:
    with utils.RawPcapReader(str(path)) as reader:
        for data, meta in reader:
            if hasattr(meta, "tsresol"):
                ticks = meta.tshigh << 32 | meta.tslow
                if ticks >= 2**63:  # a time before 1970
                    ticks -= 2**64
                time = ticks * 10**9 // meta.tsresol
            else:
                time = meta.sec * 10**9 + meta.usec * (1 if reader.nano else 1000)
            yield data, time, max(meta.wirelen, len(data))


def by_us(path: Path, **options: int) -> list[RawFrame]:
    with open_files(path, **options) as source:
        return read_all(source, check=False)


def seen(frames: list[RawFrame]) -> list[Seen]:
    return [(f.data, f.time_ns, f.wire_len) for f in frames]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_capture_is_read_as_scapy_reads_it(path: Path, tmp_path: Path) -> None:
    frames = by_us(path)
    theirs = list(by_scapy(path))
    assert seen(frames) == theirs[: len(frames)]
    # scapy hands out the part that is left of a record cut off at the end of the file
    assert len(theirs) - len(frames) in (0, 1)
    assert by_us(path, window_size=300) == frames
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert by_us(packed) == frames


@pytest.mark.skipif(not shutil.which("capinfos"), reason="capinfos is not installed")
def test_counts_are_those_of_capinfos() -> None:
    # a sanitizer preloaded into this process is not for other people's programs
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    table = subprocess.run(
        ["capinfos", "-T", "-M", "-r", "-N", "-c", "-d", *map(str, CAPTURES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    ).stdout
    counts = {}
    for line in table.splitlines():
        name, packets, size = line.split("\t")
        counts[Path(name)] = (int(packets), int(size))
    assert len(counts) > len(CAPTURES) * 0.9
    for path, (packets, size) in counts.items():
        frames = by_us(path)
        assert (len(frames), sum(f.wire_len for f in frames)) == (packets, size), path
