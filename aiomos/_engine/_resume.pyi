"""The aiomos side of benchmarks/resume.py."""

from collections.abc import Awaitable, Callable
from typing import Any

def resume_ns(
    read_to_end: Callable[[Any], Awaitable[int]],
    flow_class: type,
    endpoint_class: type,
    resumes: int,
    burst: int,
    chunk: bytes,
) -> float: ...
