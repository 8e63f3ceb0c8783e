"""Judging: DPDK (``--dpdk``): the module, the library and its drivers, memory."""

from __future__ import annotations

from aiomos._doctor_pci import check_pci
from aiomos._findings import Finding, Way, listed, missing, note, ok, size_of
from aiomos._machine import Machine
from aiomos._machine_dpdk import Dpdk
from aiomos._machine_memory import HugePages

WANTED = 256 << 20  # bytes of huge pages a NUMA node: pools and rings of a few ports and workers

INSTALL = "apt-get install libdpdk-dev dpdk"

#: Virtual devices that aiomos is made for, and what each is good for.
VIRTUAL = {
    "net_pcap": "capture files, or interfaces through libpcap",
    "net_ring": "rings in memory, inside one process or between workers",
    "net_memif": "shared memory with another program (VPP, another aiomos)",
    "net_tap": "a new kernel interface, the other end of which is the port",
    "net_null": "frames of zeros as fast as can be, for measuring",
    "net_virtio_user": "the kernel's or a virtual machine's vhost",
    "net_af_xdp": "a kernel interface, taken (as --exclusive)",
    "net_af_packet": "a kernel interface, copied; -i does it better",
}


def dpdk_way(machine: Machine) -> Way:
    """Ports that a program drives itself."""
    found = [_module(machine), _library(machine), *_virtual(machine)]
    found += _huge_pages(machine)
    found += check_pci(machine)
    return Way("dpdk", "DPDK ports (--dpdk)", tuple(found))


def _module(machine: Machine) -> Finding:
    dpdk, topic = machine.dpdk, "module"
    if not dpdk.built:
        text = "this build of aiomos is without DPDK."
        return missing(topic, text, *how_to_get(dpdk), prevents=True)
    if dpdk.error:
        return missing(
            topic,
            f"it cannot be loaded ({dpdk.error}): DPDK is not installed, or of another version"
            " than the module was built with. Build it on this machine:",
            *how_to_get(dpdk),
            prevents=True,
        )
    return ok(topic, "built, and it can be loaded.")


def how_to_get(dpdk: Dpdk) -> tuple[str, ...]:
    """The commands that bring the module."""
    return (dpdk.build,) if dpdk.headers else (INSTALL, dpdk.build)


def _library(machine: Machine) -> Finding:
    dpdk, topic = machine.dpdk, "library"
    if not dpdk.version:
        return missing(topic, "no DPDK library is installed.", INSTALL, prevents=True)
    if not dpdk.drivers:
        return missing(
            topic,
            f"DPDK {dpdk.version}, without one driver of ports.",
            "apt-get install librte-meta-net",
            prevents=True,
        )
    libraries = {d.library for d in dpdk.drivers}
    return ok(topic, f"DPDK {dpdk.version}, {len(libraries)} driver libraries.")


def _virtual(machine: Machine) -> list[Finding]:
    names = [d.name for d in machine.dpdk.drivers if d.name in VIRTUAL]
    if not names:
        return []
    found = [ok("virtual devices", f"{listed(names)}.")]
    if "net_af_packet" in names:
        found.append(
            note(
                "net_af_packet",
                "cuts offloaded frames to its slot size without a word, hides the kernel's drops,"
                " cannot wait for frames, and shares its fanout with rollover; -i IFACE has none"
                " of these faults and needs no DPDK.",
            )
        )
    if "net_tap" in names and not machine.surroundings.tun:
        load = ("modprobe tun",) if machine.user_drivers.modules else ()
        found.append(missing("net_tap", "/dev/net/tun cannot be opened.", *load))
    return found


def _huge_pages(machine: Machine) -> list[Finding]:
    """Each NUMA node with processors wants its own, since a port's memory is to be near it."""
    sizes = sorted({h.size for h in machine.memory.pages})
    if not sizes:
        return [missing("huge pages", "this kernel has none (CONFIG_HUGETLBFS): virtual devices"
                        " run without them, NICs do not.")]  # fmt: skip
    nodes = sorted({h.node for h in machine.memory.pages}, key=lambda n: n or 0)
    found = [_node(machine, node) for node in nodes if _has_cpus(machine, node)]
    used = {h.size for h in machine.memory.pages if h.total} or {sizes[0]}
    return [*found, *(_mount(machine, size) for size in sorted(used))]


def _has_cpus(machine: Machine, node: int | None) -> bool:
    cpus = dict(machine.cpus.nodes)
    return node is None or bool(cpus.get(node, frozenset({0})))


def _node(machine: Machine, node: int | None) -> Finding:
    """What a node has, in all sizes; if it is too little, more of the smallest size."""
    pages = [h for h in machine.memory.pages if h.node == node]
    topic = "huge pages" if node is None else f"huge pages, node {node}"
    free = sum(h.size * h.free for h in pages)
    if free >= WANTED:
        have = listed(f"{h.free} of {h.total} x {size_of(h.size)} free" for h in pages if h.total)
        return ok(topic, f"{have}.")
    total = sum(h.size * h.total for h in pages)
    text = (
        f"{size_of(total)} reserved, {size_of(free)} free; virtual devices run without any,"
        f" NICs do not: {size_of(WANTED)} serve a few workers."
    )
    return missing(topic, text, *_reserve(machine, min(pages, key=lambda h: h.size), free))


def _reserve(machine: Machine, pages: HugePages, free: int) -> tuple[str, ...]:
    """As many pages more as are wanting, if that leaves memory for anything else."""
    more = -(-(WANTED - free) // pages.size)
    if more * pages.size > machine.memory.available // 2:
        return ()
    return (f"echo {pages.total + more} > {pages.path}",)


def _mount(machine: Machine, size: int) -> Finding:
    topic = f"hugetlbfs, {size_of(size)}"
    mounts = [m for m in machine.memory.mounts if m.size == size]
    if any(m.writable for m in mounts):
        return ok(topic, f"mounted at {next(m.path for m in mounts if m.writable)}.")
    if mounts:
        path = mounts[0].path
        return missing(topic, f"mounted at {path}, where this user may not write.",
                       f"chmod 1777 {path}")  # fmt: skip
    path = "/dev/hugepages" if size == 2 << 20 else f"/dev/hugepages-{size >> 20}M"
    return missing(
        topic,
        "not mounted: the pages cannot be mapped by name, which workers need.",
        f"mkdir -p {path}",
        f"mount -t hugetlbfs -o pagesize={size >> 20}M nodev {path}",
    )
