"""Room for the descriptors of a launch: rings between workers are many, limits are often low."""

from __future__ import annotations

import resource
from pathlib import Path

from aiomos._engine.errors import ConfigError

#: Descriptors of a ring, of a packet socket, and of a process: its channel, and what watches it.
_RING, _SOCKET, _PROCESS = 2, 2, 4
#: For everything else that a supervisor opens, such as questions for statistics.
_SPARE = 32


def needed(count: int, rings: int, pages: int = 0) -> int:
    """The most that a supervisor opens.

    Args:
        count: of the workers; a distributor may stand beside them.
        rings: between all these.
        pages: huge pages that they share.
    """
    return _RING * rings + _SOCKET * count + _PROCESS * (count + 1) + pages + _SPARE


def make_room(count: int, rings: int, pages: int = 0) -> None:
    """Raises this process's limit of open files by what is needed, where that is not allowed yet.

    What it was before is left for handlers, since workers inherit it.

    Raises:
        ConfigError: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = len(list(Path("/proc/self/fd").iterdir())) + needed(count, rings, pages)
    if soft == resource.RLIM_INFINITY or soft >= least:
        return
    if hard != resource.RLIM_INFINITY and hard < least:
        raise ConfigError(
            f"--workers {count}: needs {least} open files, and {hard} are allowed: fewer workers, "
            f"or, as root, ulimit -n {least} (of a service: LimitNOFILE={least})"
        )
    wanted = soft + least
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
