"""A new flow as the frame that flow filters are judged on (semantics.md 8)."""
from libc.string cimport memcpy

from aiomos._engine.flowfilters cimport FilterSet
from aiomos._engine.flowprobe cimport FlowProbe
from aiomos._engine.limits cimport CLIENT, SERVER


cdef uint64_t match_flow(void *context, Flow *flow, Packet *packet) noexcept nogil:
    cdef FlowProbe probe
    memcpy(probe.src_mac, flow.mac[CLIENT], 6)
    memcpy(probe.dst_mac, flow.mac[SERVER], 6)
    probe.n_vlan = flow.n_vlan
    probe.ip_version = flow.ip_version
    probe.protocol = flow.protocol
    probe.vlan_tci[0] = flow.vlan[0]
    probe.vlan_tci[1] = flow.vlan[1]
    probe.sport = flow.ports[CLIENT]
    probe.dport = flow.ports[SERVER]
    memcpy(probe.src, flow.address[CLIENT], 16)
    memcpy(probe.dst, flow.address[SERVER], 16)
    return (<FilterSet>context).match(&probe)
