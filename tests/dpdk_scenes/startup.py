"""DPDK and its ports started and closed: in order, twice, too early, as nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

from stage import dpdk, start

from aiomos._engine.dpdkconfig import DpdkConfig

NOBODY = 65534


def open_badly(device: str, config: dict[str, Any] | None = None, **options: Any) -> None:
    start(**(config or {}))
    dpdk.open_port(device, **options)


def open_as_nobody(device: str, **config: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        os.environ["XDG_RUNTIME_DIR"] = folder
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, 0)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            start(**config)
            with dpdk.open_port(device) as port:
                return len(port.source().take())
        finally:
            os.seteuid(0)


def start_badly(**config: Any) -> None:
    dpdk.initialise(DpdkConfig(**config))


def start_twice(second: dict[str, Any]) -> Any:
    """The same again is nothing; another configuration is refused."""
    first = start()
    assert start() == first
    assert dpdk.initialise(first) == first
    return start(**second) == first


def open_twice() -> None:
    start()
    with dpdk.open_port("net_null0"):
        dpdk.open_port("net_null0")


def open_again() -> Any:
    """A device that was closed can be opened again; DPDK that was shut down cannot be started."""
    start()
    for _ in range(3):
        with dpdk.open_port("net_null0") as port:
            port.source().take()
    dpdk.shutdown()
    dpdk.shutdown()
    dpdk.open_port("net_null0")


def shut_down_too_early() -> None:
    start()
    with dpdk.open_port("net_null0"):
        dpdk.shutdown()


def use_after_close() -> Any:
    start()
    port = dpdk.open_port("net_null0")
    source = port.source()
    port.close()
    said = []
    for use in (source.take, port.source, port.info, port.counters):
        try:
            use()
        except OSError as error:
            said.append(str(error))
    return said


def let_go() -> Any:
    """A port that nobody has any more goes with its last source."""
    start()
    source = dpdk.open_port("net_null0").source()
    taken = source.take()
    before = dpdk.ports()
    del taken
    source.close()
    dpdk.shutdown()
    return [before, dpdk.ports()]


def not_needed() -> Any:
    """Libraries of DPDK in a process that uses none of it."""
    code = "import aiomos.cli; print(open('/proc/self/maps').read().count('librte_'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def quiet_start() -> Any:
    """DPDK writes nothing to the terminal, changes no affinity, and starts no telemetry."""
    affinity = os.sched_getaffinity(0)
    effective = start()
    with dpdk.open_port("net_null0"):
        pass
    return [
        os.sched_getaffinity(0) == affinity,
        effective.huge,
        dpdk.version(),
        dpdk.built_version(),
    ]
