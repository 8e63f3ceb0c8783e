"""Facts about the kernel's interfaces in this network namespace: rtnetlink, ethtool, netdev.

Not from /sys/class/net: that shows the namespace in which /sys was mounted, which inside a
container or ``ip netns`` need not be the one this process is in.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping

import attrs

from aiomos._ethtool import Hardware, Offloads, Rss, asking, read_hardware
from aiomos._netlink import (
    Attributes,
    all_attributes,
    dump_generic,
    dump_route,
    number,
    parse_attributes,
    text,
)

_GETLINK, _GETADDR, _GETROUTE = 18, 22, 26
_UP, _LOOPBACK = 0x1, 0x8
_STATES = ("unknown", "not present", "down", "lower layer down", "testing", "dormant", "up")
_XDP_MODES = {1: "native", 2: "generic", 3: "offloaded", 4: "several"}
_MAIN_TABLE, _UNICAST = 254, 1
_BASIC, _REDIRECT, _ZERO_COPY = 1, 2, 8

#: Drivers with XDP of their own, for kernels that do not tell it (before 6.3).
_ZERO_COPY_DRIVERS = {"i40e", "ice", "igc", "ixgbe", "mlx5_core", "stmmac"}
_NATIVE_DRIVERS = _ZERO_COPY_DRIVERS | {
    *(
        "atlantic",
        "bnxt_en",
        "cpsw",
        "ena",
        "fec",
        "fsl_dpaa2_eth",
        "fsl_enetc",
        "gve",
        "hv_netvsc",
    ),
    *("igb", "ixgbevf", "lan966x", "mana", "mlx4_en", "mvneta", "mvpp2", "netsec", "nfp", "nicvf"),
    *("qede", "rvu_nicpf", "sfc", "tsnep", "tun", "veth", "virtio_net", "vif"),
}


@attrs.frozen
class Xdp:
    """What an interface can do for AF_XDP. None: not known."""

    native: bool | None = None  # its driver runs programs itself, and can hand frames to sockets
    zero_copy: bool | None = None
    attached: str = ""  # a program is attached: native, generic, offloaded, several; "": none


@attrs.frozen
class Interface:
    """One interface of the kernel."""

    name: str
    index: int
    kind: str  # veth, tun, bridge, ...; "": no virtual one
    state: str  # up, down, dormant, ...; unknown: up, and does not tell of its link
    up: bool  # switched on
    loopback: bool
    mtu: int
    mac: str
    addresses: tuple[str, ...]  # with prefix length; link-local ones left out
    default_route: bool
    master: str  # the bridge or bond that it belongs to; "": none
    rx_queues: int
    tx_queues: int
    hardware: Hardware
    xdp: Xdp

    @property
    def driver(self) -> str:
        """The kernel's driver, or the kind of a virtual interface."""
        return self.hardware.driver or self.kind

    @property
    def queues(self) -> int:
        """Receive queues in use; a driver that does not tell uses all that it has."""
        return self.rx_queues if self.hardware.queues is None else self.hardware.queues

    @property
    def offloads(self) -> Offloads:
        """Which offloads are on."""
        return self.hardware.offloads

    @property
    def rss(self) -> Rss | None:
        """How packets are spread over the queues; None: not told."""
        return self.hardware.rss


def read_interfaces() -> tuple[Interface, ...]:
    """The interfaces of this thread's network namespace, by index.

    Raises:
        OSError: the kernel answers no questions over netlink (no Linux, or forbidden).
    """
    links = dump_route(_GETLINK, bytes(16), 16)
    names = {struct.unpack_from("=i", head, 4)[0]: text(a, 3) for head, a in links}
    addresses = _addresses()
    default = _default_routes()
    features = _xdp_features()
    with asking() as asked:
        found = [
            _interface(
                head, a, names, addresses, default, features, read_hardware(asked, text(a, 3))
            )
            for head, a in links
        ]
    return tuple(sorted(found, key=lambda i: i.index))


def _interface(
    head: bytes,
    link: Attributes,
    names: Mapping[int, str],
    addresses: Mapping[int, list[str]],
    default: frozenset[int],
    features: Mapping[int, int],
    hardware: Hardware,
) -> Interface:
    _, _, index, flags, _ = struct.unpack("=BxHiII", head)
    kind = text(parse_attributes(link.get(18, b"")), 1)
    return Interface(
        name=text(link, 3),
        index=index,
        kind=kind,
        state=_STATES[min(number(link, 16), len(_STATES) - 1)],
        up=bool(flags & _UP),
        loopback=bool(flags & _LOOPBACK),
        mtu=number(link, 4),
        mac=link.get(1, b"").hex(":"),
        addresses=tuple(addresses.get(index, ())),
        default_route=index in default,
        master=names.get(number(link, 10), ""),
        rx_queues=number(link, 32),
        tx_queues=number(link, 31),
        hardware=hardware,
        xdp=_xdp(link, hardware.driver or kind, features.get(index)),
    )


def _addresses() -> dict[int, list[str]]:
    """Index -> addresses. Link-local ones come by themselves and bind nobody to an interface."""
    found: dict[int, list[str]] = {}
    for head, attributes in dump_route(_GETADDR, bytes(8), 8):
        _, length, _, _, index = struct.unpack("=BBBBI", head)
        raw = attributes.get(2) or attributes.get(1, b"")  # IFA_LOCAL, IFA_ADDRESS
        if len(raw) in (4, 16) and not (address := ipaddress.ip_address(raw)).is_link_local:
            found.setdefault(index, []).append(f"{address}/{length}")
    return found


def _default_routes() -> frozenset[int]:
    """Indices of the interfaces that a default route of the main table leads over."""
    found: set[int] = set()
    for head, attributes in dump_route(_GETROUTE, bytes(12), 12):
        _, prefix, _, _, table, _, _, kind = struct.unpack_from("=8B", head)
        if prefix == 0 and kind == _UNICAST and (number(attributes, 15) or table) == _MAIN_TABLE:
            found |= {number(attributes, 4), *_next_hops(attributes.get(9, b""))}
    return frozenset(found - {0})


def _next_hops(data: bytes) -> Iterable[int]:
    """Indices in RTA_MULTIPATH."""
    at = 0
    while at + 8 <= len(data):
        length, _, _, index = struct.unpack_from("=HBBi", data, at)
        yield index
        at += max((length + 3) & ~3, 8)


def _xdp_features() -> dict[int, int]:
    """Index -> what the kernel says of each interface's XDP (since 6.3); nothing before."""
    try:
        return {number(a, 1): number(a, 3) for a in dump_generic("netdev", 1)}
    except OSError:
        return {}


def _xdp(link: Attributes, driver: str, features: int | None) -> Xdp:
    mode = number(dict(all_attributes(link.get(43, b""))), 2)
    attached = _XDP_MODES.get(mode, "")
    if features is not None:
        wanted = _BASIC | _REDIRECT
        return Xdp(features & wanted == wanted, bool(features & _ZERO_COPY), attached)
    if driver in _NATIVE_DRIVERS:
        return Xdp(True, driver in _ZERO_COPY_DRIVERS, attached)
    return Xdp(None, None, attached)
