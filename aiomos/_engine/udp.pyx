"""Queue a datagram; let idle flows go."""
from libc.stdint cimport uint8_t

from aiomos._engine.events cimport (EVENT_PACKET, EVENT_START, HOOK_RECEIVER, HOOK_SENDER,
                                    VERDICT_ACCEPTED)
from aiomos._engine.flow cimport FLOW_CLOSED, FLOW_ESTABLISHED, HALF_SEEN
from aiomos._engine.life cimport (flow_close, flow_expiry, flow_forget, flow_idle, flow_start,
                                  flow_watch)
from aiomos._engine.limits cimport CLIENT, CLOSE_TIMEOUT
from aiomos._engine.overlap cimport POLICY_BITS
from aiomos._engine.state cimport (C_MEMORY, C_UDP_DROPPED, RECORD_DATAGRAM, START_DATA,
                                   START_ESTABLISHED, START_SYN, event_raise, record_add)
from aiomos._engine.stream cimport (STREAM_STOPPED, STREAM_TOLD, Span, Stream, stream_append,
                                    stream_append_bytes)


cdef void udp_arrives(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    f.h[s].packets += 1
    f.h[s].offset += p.payload_len
    f.last_ns = cs.now
    if not f.h[s].flags & HALF_SEEN:
        f.h[s].flags |= HALF_SEEN
        event_raise(cs, f, EVENT_START, s, HOOK_SENDER, 0, 0, 0)
    if not f.flags & FLOW_ESTABLISHED:
        f.flags |= FLOW_ESTABLISHED
        f.policies = <uint8_t>(f.policies | f.policies >> POLICY_BITS)  # one queue, whoever reads
        flow_start(cs, f, START_SYN)
        flow_start(cs, f, START_ESTABLISHED)
        flow_start(cs, f, START_DATA)
        flow_watch(cs, f)
    if f.stream[CLIENT] != NULL and not f.flags & FLOW_CLOSED:
        enqueue(cs, f, p, s)
    event_raise(cs, f, EVENT_PACKET, s, HOOK_SENDER, VERDICT_ACCEPTED, 0, 0)
    event_raise(cs, f, EVENT_PACKET, s, HOOK_RECEIVER, VERDICT_ACCEPTED, 0, 0)


cdef void enqueue(CoreState *cs, Flow *f, Packet *p, int s) noexcept nogil:
    cdef Stream *queue = f.stream[CLIENT]
    cdef DatagramHeader header
    cdef Span span
    if queue.flags & STREAM_STOPPED:
        return
    if queue.fill > DATAGRAM_QUEUE:
        cs.counters[C_UDP_DROPPED] += 1
        return
    header.time_ns = cs.stamp
    header.length = p.payload_cap
    header.sender = s
    span.frame = p.frame
    span.offset = p.payload_off
    span.length = p.payload_cap
    span.data = NULL
    if p.linear:
        span.data = cs.scratch + p.payload_off
    elif p.payload_off + p.payload_cap <= p.frame.head_len:
        span.data = p.frame.data + p.payload_off
    if not stream_append_bytes(queue, <const uint8_t *>&header, sizeof(DatagramHeader)):
        cs.counters[C_MEMORY] += 1
        return
    if span.length and not stream_append(queue, &span):
        queue.fill -= sizeof(DatagramHeader)
        cs.counters[C_MEMORY] += 1
        return
    if not queue.flags & STREAM_TOLD:
        queue.flags |= STREAM_TOLD
        record_add(cs, f, RECORD_DATAGRAM, <uint8_t>s)


cdef void udp_timer(CoreState *cs, Flow *f) noexcept nogil:
    flow_idle(cs, f)
    if flow_expiry(cs, f) > cs.now:
        flow_watch(cs, f)
    elif f.flags & FLOW_CLOSED:
        flow_forget(cs, f)
    else:
        flow_close(cs, f, CLOSE_TIMEOUT)
        flow_forget(cs, f)      # now: the next datagram begins a new flow
