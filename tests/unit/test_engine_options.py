"""Engine options: what they take, and what is said of anything else."""

from __future__ import annotations

import pytest

import aiomos
from aiomos._engine._testcore import CoreDriver
from aiomos._engine.options import DEFAULTS, check_options, parse_options

TIMES = [name for name, value in DEFAULTS.items() if isinstance(value, float)]
FLAGS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]


def test_unknown_option_is_refused():
    with pytest.raises(TypeError, match="no such engine option: colour"):
        CoreDriver(colour="red")


def test_defaults_are_values_that_their_options_take():
    assert check_options({}).keys() == DEFAULTS.keys()
    assert check_options({}) == check_options(DEFAULTS)


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [-1, "5", None, True, float("nan"), float("inf"), 1e12])
def test_time_that_is_none_is_refused(name, value):
    with pytest.raises(aiomos.ConfigError, match=rf"^{name}=.*: it is a number") as caught:
        CoreDriver(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["max_flows", "memory"])
@pytest.mark.parametrize("value", [-1, 1.5, "many", True])
def test_count_that_is_none_is_refused(name, value):
    with pytest.raises(aiomos.ConfigError, match=rf"^{name}="):
        CoreDriver(**{name: value})


@pytest.mark.parametrize("name", FLAGS)
def test_flag_that_is_none_is_refused(name):
    with pytest.raises(aiomos.ConfigError, match=f"^{name}=1: it is True or False"):
        CoreDriver(**{name: 1})


def test_words_of_a_command_line_become_values():
    words = ("max-flows=1000", "embryonic=2.5", "vlan-in-key=yes", "memory=0x100000")
    assert parse_options(words) == {
        "max_flows": 1000, "embryonic": 2.5, "vlan_in_key": True, "memory": 1 << 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    "word", ["colour=red", "embryonic", "embryonic=soon", "max_flows=1.5", "midstream=maybe", "=1"]
)
def test_word_that_means_nothing_is_refused_in_one_line(word):
    with pytest.raises(aiomos.ConfigError) as caught:
        parse_options((word,))
    assert "\n" not in str(caught.value)
