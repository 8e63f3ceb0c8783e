"""Option lists of TCP headers: what is taken, what is passed over, where parsing stops."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aiomos._engine._testframes import parse_options as parse

sys.path.append(str(Path(__file__).parents[1]))
from craft import mss, sack_permitted, timestamp, window_scale

EMPTY = {
    "mss": 0,
    "window_scale": None,
    "timestamp": None,
    "sack_permitted": False,
    "malformed": False,
    "signature": 0,
}


def test_no_options_give_nothing():
    assert parse(b"") == EMPTY


def test_usual_syn_options_are_all_found():
    found = parse(mss(1460) + sack_permitted() + timestamp(7, 9) + b"\x01" + window_scale(7))
    assert found == {
        "mss": 1460,
        "window_scale": 7,
        "timestamp": (7, 9),
        "sack_permitted": True,
        "malformed": False,
        "signature": 0,
    }


def test_end_of_options_stops_before_what_follows():
    assert parse(b"\x00" + mss(1460)) == EMPTY


@pytest.mark.parametrize("shift", [15, 200, 255])
def test_window_scale_beyond_14_counts_as_14(shift):
    assert parse(window_scale(shift))["window_scale"] == 14


def test_window_scale_of_zero_is_an_offer():
    assert parse(window_scale(0))["window_scale"] == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"\x02\x00\x05\xb4",  # length 0
        b"\x02\x01\x05\xb4",  # length 1
        b"\x02\x05\x05\xb4",  # beyond the list
        b"\x02",  # no length byte
        b"\x08\x0a\x00\x00",  # timestamp cut short
        b"\x1e\xff",
    ],
)
def test_impossible_length_stops_and_is_malformed(bad):
    found = parse(sack_permitted() + bad)
    assert found["malformed"]
    assert found["sack_permitted"]
    assert found["mss"] == 0


@pytest.mark.parametrize("odd", [b"\x02\x03\x05", b"\x03\x04\x07\x00", b"\x08\x04\x00\x00"])
def test_option_of_another_length_is_passed_over(odd):
    assert parse(odd + sack_permitted()) == {**EMPTY, "sack_permitted": True}


def test_unknown_option_and_empty_sack_are_passed_over():
    assert parse(b"\xfd\x04\x12\x34" + b"\x05\x02" + mss(536)) == {**EMPTY, "mss": 536}


def test_last_of_repeated_options_holds():
    assert parse(mss(1000) + mss(1200))["mss"] == 1200


@pytest.mark.parametrize("length", range(41))
def test_any_cut_of_a_full_list_is_read_inside_only(length):
    full = mss() + sack_permitted() + timestamp(1, 2) + b"\x01" + window_scale() + b"\x05\x12"
    parse(full.ljust(40, b"\x07")[:length])
