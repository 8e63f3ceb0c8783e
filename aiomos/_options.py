"""Values that handlers are declared with: their names, and the engine's numbers for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal, TypeAlias

from aiomos._engine.errors import ConfigError

Start: TypeAlias = Literal["syn", "established", "data"]
Sides: TypeAlias = Literal["both", "client", "server"]
OnGap: TypeAlias = Literal["raise", "yield", "skip"]
Deliver: TypeAlias = Literal["arrival", "acked"]
Overlap: TypeAlias = Literal[
    "first", "last", "linux", "old-linux", "bsd", "macos", "windows", "windows2k3", "vista",
    "solaris", "hpux11",
]  # fmt: skip
Urgent: TypeAlias = Literal["inline", "oob", "gap", "drop"]
OnFull: TypeAlias = Literal["gap", "stop", "detach"]

#: Option -> value -> number in the engine (limits.pxd, overlap.pxd, state.pxd, view.pxd).
CHOICES: dict[str, dict[str, int]] = {
    "start": {"syn": 0, "established": 1, "data": 2},
    "sides": {"client": 1, "server": 2, "both": 3},
    "on_gap": {"raise": 0, "yield": 1, "skip": 2},
    "on_full": {"gap": 0, "stop": 1, "detach": 2},
    "deliver": {"arrival": 0, "acked": 8},
    "overlap": {
        **{"first": 0, "vista": 0, "last": 1, "linux": 3, "old-linux": 4},
        **dict.fromkeys(("bsd", "macos", "windows", "windows2k3"), 2),
        **dict.fromkeys(("solaris", "hpux11"), 5),
    },
    "urgent": {"oob": 0, "inline": 1, "drop": 2, "gap": 3},
    "protocol": {"tcp": 6, "udp": 17},
}

MAX_LIMIT = 1 << 30


def number_of(option: str, value: str) -> int:
    """The engine's number for a value.

    Raises:
        ConfigError: the option has no such value.
    """
    choices = CHOICES[option]
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ConfigError(f"{option}={value!r}: it is one of {listed}")
    return choices[value]


def check_limit(value: int) -> int:
    """A limit in bytes, as it is.

    Raises:
        ConfigError: it is no number of bytes from 1 to 2**30.
    """
    if not isinstance(value, int) or not 1 <= value <= MAX_LIMIT:
        raise ConfigError(f"limit={value!r}: it is a number of bytes from 1 to {MAX_LIMIT}")
    return value


def prefixes_of(table: Mapping[str, Overlap]) -> list[tuple[bytes, int, int]]:
    """A table of overlap policies by prefix, as the engine takes it.

    Raises:
        ConfigError: a key is no prefix, or a value no policy.
    """
    found = []
    for prefix, policy in table.items():
        try:
            network = ipaddress.ip_network(prefix)
        except ValueError as error:
            raise ConfigError(f"overlap={{{prefix!r}: ...}}: {error}") from error
        address = network.network_address.packed
        found.append((address, network.prefixlen, number_of("overlap", policy)))
    return found
