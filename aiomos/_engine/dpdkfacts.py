"""What can be asked of a DPDK port, as tuples with names."""

from __future__ import annotations

from typing import NamedTuple

#: What a device's spreading of frames over queues is worth, by enum aio_dpdk_rss.
RSS = ("none", "unknown", "symmetric", "key")


class PortInfo(NamedTuple):
    """What a port is and can do.

    ``rss``: "none", the device does not spread frames over queues; "unknown", it does, by a hash
    that is not known to be symmetric; "symmetric", by one that is, whose values software cannot
    compute; "key", by Toeplitz with the repeated key 6d5a, which is symmetric and known. ``ends``:
    it reads a capture, and an empty burst is its end. ``socket`` is its NUMA node (-1: none),
    ``mbufs`` the size of the pool of queue 0.
    """

    name: str
    driver: str
    mac: str
    rss: str
    ends: bool
    interrupts: bool
    timestamps: bool
    checksums: bool
    vlan_strip: bool
    scatter: bool
    rx_queues: int
    tx_queues: int
    max_rx_queues: int
    max_tx_queues: int
    rx_descriptors: int
    tx_descriptors: int
    mtu: int
    reta_size: int
    socket: int
    mbufs: int


class Link(NamedTuple):
    """State of a port's link; ``speed_mbps`` is None where the device does not know it."""

    up: bool
    speed_mbps: int | None
    full_duplex: bool


class PortCounters(NamedTuple):
    """A device's own counters since the port was opened, of all queues together.

    ``missed``: dropped by the device, its ring was full. ``no_memory``: dropped by the driver,
    the pool was empty.
    """

    received: int
    received_bytes: int
    sent: int
    sent_bytes: int
    missed: int
    no_memory: int
    errors: int
    send_errors: int
