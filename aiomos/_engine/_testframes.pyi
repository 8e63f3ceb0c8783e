"""What the hooks look like from tests; see _testframes.pyx for what they do."""

from collections.abc import Iterable
from typing import Any

def seq_compare(a: int, b: int) -> tuple[int, bool, bool, bool, bool]: ...
def decode(
    data: bytes | bytearray,
    *,
    scope: Iterable[str] = (),
    seed: bytes = b"",
    without: Iterable[str] = (),
    link_type: int = 1,
    cap_len: int | None = None,
    wire_len: int | None = None,
    head_len: int | None = None,
    cuts: Iterable[int] = (),
    vlan: Iterable[int] = (),
    direction: int = 0,
) -> dict[str, Any]: ...
def decode_usual(
    data: bytes | bytearray,
    *,
    link_type: int = 1,
    cap_len: int | None = None,
    wire_len: int | None = None,
    head_len: int | None = None,
    cuts: Iterable[int] = (),
    vlan: Iterable[int] = (),
) -> dict[str, Any] | None: ...
def fold_sum(data: bytes | bytearray, portable: bool = False) -> int: ...
def parse_options(data: bytes) -> dict[str, Any]: ...
