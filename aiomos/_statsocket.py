"""Statistics for another terminal: a Unix socket a run, which ``aiomos stats`` asks.

It lies in ``$XDG_RUNTIME_DIR/aiomos``, else ``/run/aiomos`` for root and ``/tmp/aiomos-UID`` for
others, by the name of the process: ``PID.sock``. Whoever connects is told once, in JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from aiomos._engine.errors import ConfigError

Report: TypeAlias = dict[str, Any]

#: Seconds that a run has for its answer.
PATIENCE = 5.0
_SUFFIX = ".sock"


def folder() -> Path:
    """Where the sockets of this user lie."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "aiomos"
    return Path("/run/aiomos") if os.getuid() == 0 else Path(f"/tmp/aiomos-{os.getuid()}")


def _own_folder() -> Path:
    """The same, made if need be, and nobody else's.

    Raises:
        OSError: it cannot be made, or somebody else has made it.
    """
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = place.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid():
        raise PermissionError(f"{place} is not this user's")
    return place


@contextlib.asynccontextmanager
async def answering(report: Callable[[], Awaitable[Report]]) -> AsyncIterator[Path | None]:
    """Answers on the running loop, as long as the body runs; None where no socket can be made."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(await report()).encode())
            await writer.drain()
        writer.close()

    try:
        path = _own_folder() / f"{os.getpid()}{_SUFFIX}"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(answer, path)
        path.chmod(0o600)
    except OSError:
        yield None
        return
    try:
        yield path
    finally:
        server.close()
        path.unlink(missing_ok=True)


def running() -> list[int]:
    """Processes that can be asked; sockets that one left behind are removed."""
    found = []
    for path in sorted(folder().glob(f"*{_SUFFIX}")):
        with contextlib.suppress(ValueError):
            pid = int(path.stem)
            if Path(f"/proc/{pid}").exists():
                found.append(pid)
            else:
                path.unlink(missing_ok=True)
    return found


def ask(pid: int) -> Report:
    """What a run says of itself.

    Raises:
        ConfigError: no such run, or it does not answer.
    """
    data = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(folder() / f"{pid}{_SUFFIX}"))
            while piece := connection.recv(1 << 16):
                data += piece
        report: Report = json.loads(data)
    except TimeoutError:
        raise ConfigError(f"process {pid} does not answer: it is stopped or busy") from None
    except (OSError, ValueError):
        raise ConfigError(f"process {pid} is no live run of aiomos of this user") from None
    return report
