"""A new flow as the frame that flow filters are judged on (semantics.md 8)."""
from libc.string cimport memcpy

from aiomos._engine.flow cimport flow_role
from aiomos._engine.flowfilters cimport FilterSet
from aiomos._engine.flowprobe cimport FlowProbe
from aiomos._engine.limits cimport CLIENT


cdef uint64_t match_flow(void *context, Flow *flow, Packet *packet) noexcept nogil:
    cdef FlowProbe probe
    cdef int client = flow_role(flow, CLIENT)
    memcpy(probe.src_mac, flow.mac[client], 6)
    memcpy(probe.dst_mac, flow.mac[1 - client], 6)
    probe.n_vlan = flow.n_vlan
    probe.ip_version = flow.ip_version
    probe.protocol = flow.protocol
    probe.vlan_tci[0] = flow.vlan[0]
    probe.vlan_tci[1] = flow.vlan[1]
    probe.sport = flow.ports[client]
    probe.dport = flow.ports[1 - client]
    memcpy(probe.src, flow.address[client], 16)
    memcpy(probe.dst, flow.address[1 - client], 16)
    return (<FilterSet>context).match(&probe)
