"""Every seed, and every script that once found something, through the ordinary build."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import seeds
from defects import DEFECTS, Defect
from script import Head, Script

from aiomos._engine import _fuzz

ALL = seeds.seeds()
ENGINE = Path(__file__).resolve().parents[2] / "aiomos" / "_engine"


@pytest.mark.parametrize("name", ALL)
def test_seed_is_played_without_a_finding(name: str) -> None:
    assert _fuzz.play(ALL[name]) is None


def test_corpus_as_frames_is_played_without_a_finding(corpus: Path) -> None:
    """The first frames of each capture, whatever is in them."""
    found = {name: _fuzz.play(script.data) for name, script in seeds.captures(corpus, 8_000)}
    assert len(found) > 100
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_seeds_together_are_small() -> None:
    committed = [path.stat().st_size for path in seeds.FOUND.glob("*")]
    assert sum(committed) < 300_000


def test_script_shorter_than_its_head_is_nothing() -> None:
    assert _fuzz.play(b"") is None
    assert _fuzz.play(b"\1\2\3") is None


def test_other_bytes_under_a_number_are_noticed() -> None:
    """The oracle itself: payloads changed behind the back of a script that says it is honest."""
    assert _fuzz.play(Script().open().segment(0, 100).data) is None
    assert _fuzz.play(Script().open().salt(1).segment(0, 100).data) is None
    told = _fuzz.play(Script().open().salt(1).segment(0, 100).data, doubting=True)
    assert told == "reader: other bytes than were sent under these numbers"


def test_head_names_flags_once() -> None:
    assert len({flag.value for flag in Head}) == 8


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_defect_of_the_selftest_has_its_place(defect: Defect) -> None:
    source = ENGINE / defect.file
    assert defect.planted(source.read_text()) != source.read_text()
