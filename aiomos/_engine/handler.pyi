"""A handler of an app, as the engine needs it."""

from collections.abc import Callable
from typing import Any

class Handler:
    function: Callable[..., Any]
    name: str
    protocol: int
    start: int
    sides: int
    on_gap: int
    on_full: int
    limit: int
    policy: int
    by_prefix: bool
    started: int
    failed: int
    open: int
    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        protocol: int,
        start: int,
        sides: int,
        on_gap: int,
        limit: int,
        on_full: int,
        policy: int = 0,
        by_prefix: bool = False,
    ) -> None: ...
