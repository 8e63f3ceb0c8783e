"""The web site that is served, and data made up for transfers: the same on every run."""

from __future__ import annotations

import os
import random
from pathlib import Path

MODIFIED = 1_700_000_000
WORDS = "the quick brown fox jumps over the lazy dog while seven wizards box with jolly liquor jugs"


def numbered_lines(length: int, label: str) -> bytes:
    """Text in which every line tells its own offset, so that a misplaced piece shows."""
    words = WORDS.split()
    lines = []
    at = 0
    while at < length:
        scattered = at * 2654435761 % 99991
        line = f"{label} {at:08d} {words[at % len(words)]} {words[at % 7]} {scattered}\n"
        lines.append(line)
        at += len(line)
    return "".join(lines).encode()[:length]


def noise(length: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(length)


def pages() -> dict[str, bytes]:
    """Every file of the site by its path."""
    style = b"body { font-family: serif; margin: 2em }\n" * 12
    return {
        "index.html": b"<!doctype html><title>Example</title><p>" + WORDS.encode() + b"</p>\n",
        "about/index.html": b"<!doctype html><title>About</title>\n" + numbered_lines(1200, "a"),
        "style.css": style,
        "logo.bin": noise(14_000, 1),
        "photo.bin": noise(30_000, 2),
        "news.txt": numbered_lines(3_000, "news"),
        "long.txt": numbered_lines(24_000, "long"),
        "data/1.txt": numbered_lines(2_500, "one"),
        "data/2.txt": numbered_lines(8_000, "two"),
        "data/3.txt": numbered_lines(16_000, "three"),
        "empty.txt": b"",
    }


def build(root: Path) -> None:
    """Write the site, with a fixed modification time so that headers repeat from run to run."""
    for name, content in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (MODIFIED, MODIFIED))
