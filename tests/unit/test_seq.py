"""Sequence number arithmetic modulo 2**32."""

from __future__ import annotations

import pytest

from aiomos._engine._testframes import seq_compare

HALF = 1 << 31


@pytest.mark.parametrize("a", [0, 1, 1000, HALF - 1, HALF, HALF + 1, 2**32 - 1])
def test_equal_numbers_are_le_and_ge(a):
    assert seq_compare(a, a) == (0, False, True, False, True)


@pytest.mark.parametrize("a", [0, 5, HALF - 3, HALF, 2**32 - 2, 2**32 - 1])
@pytest.mark.parametrize("ahead", [1, 2, 1460, HALF - 1])
def test_a_number_ahead_is_greater_across_the_wrap(a, ahead):
    b = (a + ahead) % 2**32
    assert seq_compare(b, a) == (ahead, False, False, True, True)
    assert seq_compare(a, b) == (-ahead, True, True, False, False)
