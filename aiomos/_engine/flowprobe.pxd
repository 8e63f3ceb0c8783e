"""What a flow filter is judged on: one small Ethernet frame made from a flow.

It holds what stays the same for the whole flow, seen from client to server, and nothing
else: that is why a filter that reads any other byte is refused (filters.pyx).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset


cdef enum:
    PROBE_MAX = 96          # 14 Ethernet + 2 * 4 VLAN + 40 IPv6 + 20 TCP = 82
    PROBE_TCP = 6
    PROBE_UDP = 17
    PROBE_SYN = 0x02


cdef struct FlowProbe:
    uint8_t src_mac[6]      # src is the client, dst the server, as the engine decided
    uint8_t dst_mac[6]
    uint8_t n_vlan          # at most 2
    uint8_t ip_version      # 4 or 6: of the innermost header
    uint8_t protocol
    uint16_t vlan_tci[2]    # outermost first, host order
    uint16_t sport          # host order
    uint16_t dport
    uint8_t src[16]         # IPv4: the first four bytes
    uint8_t dst[16]


cdef inline uint8_t *probe_put16(uint8_t *at, uint32_t value) noexcept nogil:
    at[0] = <uint8_t>(value >> 8)
    at[1] = <uint8_t>value
    return at + 2


cdef inline uint8_t *probe_ethernet(const FlowProbe *probe, bint with_vlan,
                                    uint8_t *at) noexcept nogil:
    cdef uint32_t i, n = min(probe.n_vlan, 2) if with_vlan else 0
    memcpy(at, probe.dst_mac, 6)
    memcpy(at + 6, probe.src_mac, 6)
    at += 12
    for i in range(n):
        # A service tag outside, a customer tag inside: what QinQ equipment sends.
        at = probe_put16(at, 0x88a8 if i + 1 < n else 0x8100)
        at = probe_put16(at, probe.vlan_tci[i])
    return probe_put16(at, 0x86dd if probe.ip_version == 6 else 0x0800)


cdef inline uint8_t *probe_ipv4(const FlowProbe *probe, uint32_t payload,
                                uint8_t *at) noexcept nogil:
    memset(at, 0, 20)
    at[0] = 0x45
    probe_put16(at + 2, 20 + payload)
    at[8] = 64
    at[9] = probe.protocol      # no header checksum: no flow filter can read it
    memcpy(at + 12, probe.src, 4)
    memcpy(at + 16, probe.dst, 4)
    return at + 20


cdef inline uint8_t *probe_ipv6(const FlowProbe *probe, uint32_t payload,
                                uint8_t *at) noexcept nogil:
    memset(at, 0, 8)
    at[0] = 0x60
    probe_put16(at + 4, payload)
    at[6] = probe.protocol
    at[7] = 64
    memcpy(at + 8, probe.src, 16)
    memcpy(at + 24, probe.dst, 16)
    return at + 40


cdef inline uint32_t probe_transport_len(uint8_t protocol) noexcept nogil:
    return 20 if protocol == PROBE_TCP else 8 if protocol == PROBE_UDP else 0


cdef inline void probe_transport(const FlowProbe *probe, uint32_t size,
                                 uint8_t *at) noexcept nogil:
    memset(at, 0, size)
    probe_put16(at, probe.sport)
    probe_put16(at + 2, probe.dport)
    if probe.protocol == PROBE_UDP:
        probe_put16(at + 4, size)
        return
    at[12] = 5 << 4
    at[13] = PROBE_SYN


cdef inline uint32_t probe_build(const FlowProbe *probe, bint with_vlan,
                                 uint8_t *out) noexcept nogil:
    """Writes the frame; its length, at most PROBE_MAX."""
    cdef uint32_t size = probe_transport_len(probe.protocol)
    cdef uint8_t *at = probe_ethernet(probe, with_vlan, out)
    if probe.ip_version == 6:
        at = probe_ipv6(probe, size, at)
    else:
        at = probe_ipv4(probe, size, at)
    if size:
        probe_transport(probe, size, at)
    return <uint32_t>(at - out) + size
