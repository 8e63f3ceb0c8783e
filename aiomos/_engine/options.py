"""Engine options: names, defaults, and what values they take. docs/limits.md explains them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiomos._engine import names
from aiomos._engine.errors import ConfigError

#: Times in seconds, memory in bytes.
DEFAULTS: dict[str, Any] = {
    "embryonic": 5.0,
    "established": 3600.0,
    "one_sided": 600.0,
    "half_closed": 600.0,
    "closing": 120.0,
    "time_wait": 60.0,
    "udp_idle": 60.0,
    "idle": 30.0,
    "reorder_grace": 0.2,
    "one_sided_grace": 1.0,
    "max_flows": 1 << 22,
    "max_embryonic": 1 << 18,
    "evict_idle": 1.0,
    "on_flows_full": "evict",
    "on_embryonic_full": "evict",
    "on_memory_full": "track",
    "memory": 4 << 30,
    "history": 8192,
    "midstream": "pickup",
    "urgent": "inline",
    "oob_limit": 65535,
    "refuse_signatures": "md5",
    "min_ttl": 0,
    "vlan_in_key": False,
    "tunnel_in_key": False,
    "statistics": False,
    "community_id_seed": 0,
    "decode": names.DECODERS,
    "fragments": "discard",
    "fragment_timeout": 30.0,
    "fragment_timeout6": 60.0,
    "fragment_memory": 32 << 20,
    "fragment_datagrams": 16384,
    "checksums": "auto",
    "dedup": False,
    "dedup_window": 0.05,
}

_LONGEST = 10 * 365 * 86400.0
#: What a number may be, both ends included.
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        (
            "embryonic",
            "established",
            "one_sided",
            "half_closed",
            "closing",
            "udp_idle",
            "idle",
            "fragment_timeout",
            "fragment_timeout6",
        ),
        (0.001, _LONGEST),
    ),
    **dict.fromkeys(
        ("time_wait", "reorder_grace", "one_sided_grace", "evict_idle", "dedup_window"),
        (0.0, _LONGEST),
    ),
    "max_flows": (1, 1 << 28),
    "max_embryonic": (1, 1 << 28),
    "community_id_seed": (0, 65535),
    "min_ttl": (0, 255),
    "memory": (0, 1 << 62),
    "oob_limit": (0, 65535),
    "history": (0, 1 << 24),
    "fragment_memory": (0, 1 << 62),
    "fragment_datagrams": (1, 1 << 28),
}
#: What a word may be, and the engine's number for it.
_CHOICES: dict[str, dict[str, int]] = {
    "fragments": {"discard": 0, "first": 1, "last": 2},  # OVERLAP_* of defrag.pxd
    # "auto" is for who knows the source (Engine): of files it is "off", of live ones "live".
    "checksums": {"auto": 0, "off": 0, "on": 1, "live": 2},
    "on_flows_full": {"evict": 0, "refuse": 1},
    "on_embryonic_full": {"evict": 0, "refuse": 1},
    "on_memory_full": {"track": 0, "refuse": 1},
    "urgent": {"oob": 0, "inline": 1, "drop": 2, "gap": 3},  # URGENT_* of urgent.pxd
    "refuse_signatures": {"none": 0, "md5": 1, "all": 3},  # SIGNATURE_* of tcpopt.pxd
    # MIDSTREAM_* of state.pxd; to accept a packet is, on a tap, to leave it alone.
    "midstream": {"ignore": 0, "accept-packet": 0, "pickup": 1, "accept-flow": 2},
}
#: Policies that only an inline engine can carry out.
_INLINE = ("drop-packet", "drop-flow", "reset")


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options with their values, words as the engine's numbers.

    Raises:
        TypeError: there is no such option.
        ConfigError: an option has no such value.
    """
    unknown = given.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"no such engine option: {', '.join(sorted(unknown))}")
    return {name: _check(name, value) for name, value in (DEFAULTS | dict(given)).items()}


def _check(name: str, value: Any) -> Any:
    if name in _CHOICES:
        return _choice(name, value)
    if isinstance(DEFAULTS[name], tuple):
        return _subset(name, value)
    if isinstance(DEFAULTS[name], bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{name}={value!r}: it is True or False")
        return value
    return _number(name, value)


def _choice(name: str, value: Any) -> int:
    choices = _CHOICES[name]
    if name == "midstream" and value in _INLINE:
        raise ConfigError(f"{name}={value!r}: a tap can neither drop nor reset")
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name}={value!r}: it is one of {', '.join(map(repr, choices))}")
    return choices[value]


def _subset(name: str, value: Any) -> int:
    """Some of the words of the default, as a bit mask in their order."""
    words = DEFAULTS[name]
    unknown = [repr(word) for word in value if word not in words]
    if unknown:
        raise ConfigError(f"{name}: no such {', '.join(unknown)}; there are {', '.join(words)}")
    return sum({1 << words.index(word) for word in value})


def _number(name: str, value: Any) -> Any:
    least, most = _RANGES[name]
    whole = isinstance(DEFAULTS[name], int)
    kinds: Any = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: it is a {'whole number' if whole else 'number'}")
    if not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: it is a number from {least:.10g} to {most:.10g}")
    return value


def parse_options(settings: tuple[str, ...]) -> dict[str, Any]:
    """Options from words like ``max_flows=1000``, as a command line gives them.

    Raises:
        ConfigError: there is no such option, or it has no such value.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in DEFAULTS:
            listed = ", ".join(sorted(DEFAULTS))
            raise ConfigError(f"--set {setting}: it is NAME=VALUE with a name out of {listed}")
        found[name] = _parse(name, text.strip())
        _check(name, found[name])
    return found


def _parse(name: str, text: str) -> Any:
    """Text as what the option takes; what it does not understand is left to the check."""
    default = DEFAULTS[name]
    if isinstance(default, bool):
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(word for word in text.split(",") if word)
    try:
        return int(text, 0) if isinstance(default, int) else float(text)
    except ValueError:
        return text
