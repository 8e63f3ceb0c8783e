"""Hooks of the test suite onto frames and what is read in them (only with -Dtesting_hooks=true).

Each hook is one layer as it is, without improving it. Frames given to the engine lie in
blocks of exactly their size, so that valgrind and sanitizers see every byte read outside.
"""
cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from itertools import pairwise

from aiomos._engine import names
from aiomos._engine.options import check_options
from aiomos._engine.checksum cimport sum_bytes, sum_fold, sum_portable
from aiomos._engine.flowkey cimport KeySeed, flow_key
from aiomos._engine.flowscope cimport SCOPE_TUNNEL, SCOPE_VLAN, flow_scope
from aiomos._engine.limits cimport PROTO_TCP
from aiomos._engine.seq cimport seq_diff, seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.shim cimport aio_frame, aio_seg
from aiomos._engine.tcpopt cimport TcpOptions, tcpopt_parse
from aiomos._engine.usual cimport usual_decode, usual_header
from aiomos._engine.wire cimport (WIRE_OTHER, WIRE_UDP, Packet, Tunnel, packet_dst, packet_src,
                                  wire_decode)


@cython.no_gc
cdef class FrameBox:
    """A frame whose segments lie in blocks of exactly their size."""

    def __cinit__(self, data, int64_t time_ns=0, *, link_type=1, cap_len=None, wire_len=None,
                  head_len=None, cuts=(), vlan=(), direction=0, csum_ip=0, csum_l4=0):
        cdef bytes raw = b"" if isinstance(data, tuple) else bytes(data)
        cdef Py_ssize_t i
        marks = sorted({0, len(raw), *([] if head_len is None else [head_len]), *cuts})
        pieces = [raw[a:b] for a, b in pairwise(marks)] or [b""]
        memset(&self.frame, 0, sizeof(aio_frame))
        self.segs = <aio_seg *>calloc(len(pieces), sizeof(aio_seg))
        for i, piece in enumerate(pieces):
            self.segs[i].data = exact_copy(piece)
            self.segs[i].len = len(piece)
            self.segs[i].next = NULL
            if i:
                self.segs[i - 1].next = &self.segs[i]
        self.frame.data = self.segs[0].data
        self.frame.next = self.segs[0].next
        self.frame.head_len = self.segs[0].len
        self.frame.cap_len = len(raw) if cap_len is None else cap_len
        self.frame.wire_len = self.frame.cap_len if wire_len is None else wire_len
        self.frame.time_ns = time_ns
        self.frame.link_type = link_type
        self.frame.direction = direction
        self.frame.csum_ip = csum_ip
        self.frame.csum_l4 = csum_l4
        for i, tci in enumerate(vlan):
            self.frame.vlan[i] = tci
            self.frame.n_vlan = <uint8_t>(i + 1)

    def __dealloc__(self):
        cdef const aio_seg *seg = self.segs
        while seg != NULL:
            free(<void *>seg.data)
            seg = seg.next
        free(self.segs)


cdef const uint8_t *exact_copy(bytes data) except NULL:
    cdef size_t size = PyBytes_GET_SIZE(data)
    cdef uint8_t *block = <uint8_t *>malloc(size if size else 1)
    if block == NULL:
        raise MemoryError
    memcpy(block, PyBytes_AsString(data), size)
    return block


def seq_compare(uint32_t a, uint32_t b):
    """(diff, lt, le, gt, ge) of two sequence numbers."""
    return seq_diff(a, b), seq_lt(a, b), seq_le(a, b), seq_gt(a, b), seq_ge(a, b)


SCOPES = {"vlan": SCOPE_VLAN, "tunnel": SCOPE_TUNNEL}


def decode(data, *, scope=(), bytes seed=b"", without=(), **meta):
    """What wire_decode() makes of a frame, with its key when it has one; fields as a dict."""
    cdef FrameBox box = FrameBox(data, **meta)
    cdef Packet p
    memset(&p, 0, sizeof(Packet))
    wire_decode(&p, &box.frame, box.frame.data, box.frame.head_len,
                check_options({"decode": set(names.DECODERS).difference(without)})["decode"])
    return told(&p, scope, seed)


def decode_usual(data, **meta):
    """The same of usual_decode(); None where it has nothing to say of the frame."""
    cdef FrameBox box = FrameBox(data, **meta)
    cdef Packet p
    cdef int32_t header = usual_header(&box.frame)
    memset(&p, 0, sizeof(Packet))
    if not header:
        return None
    usual_decode(&p, &box.frame, header)
    return told(&p, (), b"")


cdef dict told(Packet *packet, scope, bytes seed):
    cdef Packet p = packet[0]
    cdef KeySeed secret
    found = {
        "status": names.STATUSES[p.status], "ip_version": p.ip_version,
        "protocol": p.protocol, "ether_type": p.ether_type,
        "vlan": [p.vlan[i] for i in range(p.n_vlan)], "ethernet": p.link != NULL,
        "tunnels": [tunnel_told(&p.tunnel[i]) for i in range(p.n_tunnels)],
    }
    if p.ip != NULL:
        size = 4 if p.ip_version == 4 else 16
        found["src"] = PyBytes_FromStringAndSize(<const char *>packet_src(&p), size)
        found["dst"] = PyBytes_FromStringAndSize(<const char *>packet_dst(&p), size)
    if p.status <= WIRE_OTHER:
        found.update(payload_off=p.payload_off, payload_len=p.payload_len,
                     payload_cap=p.payload_cap)
    if p.status <= WIRE_UDP:
        seed = seed.ljust(sizeof(KeySeed), b"\x5a")
        memcpy(&secret, <const char *>seed, sizeof(KeySeed))
        flow_key(&p, &secret, flow_scope(&p, &secret, sum({SCOPES[name] for name in scope})))
        found.update(sport=p.sport, dport=p.dport, l4_len=p.l4_len, hash=p.hash,
                     key=(p.k0, p.k1), from_low=bool(p.from_low))
        if p.protocol == PROTO_TCP:
            found.update(seq=p.seq, ack=p.ack, flags=p.flags, window=p.window,
                         options=PyBytes_FromStringAndSize(<const char *>p.l4 + 20, p.l4_len - 20))
    return found


cdef tuple tunnel_told(const Tunnel *t):
    """(kind, id or None, outer source, outer destination)"""
    cdef int at = 12 if t.ip_version == 4 else 8, size = 4 if t.ip_version == 4 else 16
    ends = [b"", b""]
    if t.ip != NULL:
        ends = [PyBytes_FromStringAndSize(<const char *>t.ip + at + i * size, size)
                for i in range(2)]
    return names.DECODERS[t.kind], t.id if t.has_id else None, *ends


def fold_sum(const uint8_t[::1] data not None, portable=False):
    """The sum of some bytes as 16 bits; portable: as on a machine without AVX2, in blocks of 32."""
    cdef uint64_t n = <uint64_t>len(data)
    return sum_fold(sum_portable(&data[0], n) if portable else sum_bytes(&data[0], n, 0))


def parse_options(bytes data):
    """What tcpopt_parse() makes of an option list."""
    cdef TcpOptions o
    cdef const uint8_t *block = exact_copy(data)
    tcpopt_parse(&o, block, <uint32_t>len(data))
    free(<void *>block)
    return {"mss": o.mss, "window_scale": o.window_scale if o.has_window_scale else None,
            "timestamp": (o.ts_value, o.ts_echo) if o.has_timestamp else None,
            "sack_permitted": bool(o.sack_permitted), "malformed": bool(o.malformed),
            "signature": o.signature}
