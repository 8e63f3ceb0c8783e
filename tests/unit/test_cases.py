"""Every stimulus of tests/cases.py is shown by a test, or waits for something named there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))
import cases  # noqa: E402 - found by the line above

CLAIMS = list(cases.claims(TESTS))


@pytest.mark.parametrize("mos", [False, True], ids=["hostile traffic", "mOS"])
def test_every_row_that_is_due_has_a_test(mos):
    rows, not_due = (cases.MOS_ROWS, cases.MOS_NOT_DUE) if mos else (cases.ROWS, cases.NOT_DUE)
    claimed = {number for of_mos, number, _ in CLAIMS if of_mos == mos}
    missing = {number: rows[number] for number in rows.keys() - not_due.keys() - claimed}
    assert missing.keys() == ({} if mos else cases.UNMET).keys()
    assert claimed - rows.keys() == set()


def test_tests_that_are_said_to_show_a_row_exist():
    there = {name for name, _ in cases.tests_of(TESTS)}
    assert {name for _, _, name in CLAIMS} - there == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Row 7: a reset.", {(False, 7)}),
        ("rows 7, 9 and 12", {(False, 7), (False, 9), (False, 12)}),
        ("(rows 48-50)", {(False, 48), (False, 49), (False, 50)}),
        ("mOS row 3; row 8", {(True, 3), (False, 8)}),
        ("a row of 3 flows; crow 5", set()),
    ],
)
def test_claims_are_read_from_docstrings(text, found):
    assert set(cases.claims_of(text)) == found
