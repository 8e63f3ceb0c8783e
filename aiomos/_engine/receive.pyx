"""Text of a segment: cut to what its receiver takes, then handed out, or kept."""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t

from aiomos._engine.assembler cimport (ASM_DIFFERS, ASM_DUPLICATE, ASM_LIMIT, ASM_NEW, Arrival,
                                       asm_add, asm_drop_first, asm_fin, asm_first, asm_run,
                                       asm_truncate)
from aiomos._engine.delivery cimport (delivery_advance, delivery_all, delivery_done,
                                      delivery_drain, delivery_due, delivery_end, delivery_fin,
                                      delivery_give_up, delivery_make_gap, delivery_shown,
                                      delivery_tell_new, delivery_watch)
from aiomos._engine.events cimport (ANOMALY_DATA_AFTER_FIN, ANOMALY_RIGHT_OF_WINDOW,
                                    EVENT_NEW_DATA, EVENT_OUT_OF_ORDER, HOOK_RECEIVER)
from aiomos._engine.flow cimport (FLOW_DATA, FLOW_ESTABLISHED, FLOW_OPEN, HALF_ACKING,
                                  HALF_CLAIMED, HALF_FIN, HALF_FIN_DONE, HALF_SEEN, Half)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport flow_arm, flow_start, flow_tell
from aiomos._engine.limits cimport GAP_MEMORY, GAP_OUT_OF_ORDER_LIMIT, GAP_SNAP_LENGTH
from aiomos._engine.repeats cimport (REPEATS_WANTED, offset_of, repeats_delivered, repeats_queued)
from aiomos._engine.seq cimport seq_diff, seq_gt, seq_lt
from aiomos._engine.state cimport (C_MEMORY, C_TCP_BEYOND_FIN, C_TCP_DIFFERING,
                                   C_TCP_OUT_OF_ORDER, C_TCP_OUTSIDE_WINDOW, C_UNACKED_BYTES,
                                   START_DATA, anomaly, count_retransmission, event_raise,
                                   event_wanted)
from aiomos._engine.stats cimport stats_early, stats_retransmitted
from aiomos._engine.stream cimport (STREAM_OVERRUN, Stream, span_cut_front, stream_append,
                                    stream_end)
from aiomos._engine.targets cimport target_linux

# A payload on its way: what of it is left to place.
cdef struct Text:
    Arrival a                 # the captured part
    uint32_t length           # bytes by the header; a.span.length of them captured


cdef inline void text_of(Text *t, CoreState *cs, Packet *p, uint32_t seq) noexcept nogil:
    t.a.seq = seq
    t.a.begin = seq
    t.length = p.payload_len
    t.a.span.frame = p.frame
    t.a.span.offset = p.payload_off
    t.a.span.length = p.payload_cap
    t.a.span.data = NULL
    if unlikely(p.linear):
        t.a.span.data = cs.scratch + p.payload_off
    elif likely(p.payload_off + p.payload_cap <= p.frame.head_len):
        t.a.span.data = p.frame.data + p.payload_off


cdef inline uint32_t text_end(const Text *t) noexcept nogil:
    return t.a.seq + t.length


cdef inline void cut_front(Text *t, uint32_t n) noexcept nogil:
    t.a.seq += n
    t.length -= n
    span_cut_front(&t.a.span, min(n, t.a.span.length))


cdef inline void cut_back(Text *t, uint32_t n) noexcept nogil:
    t.length -= n
    t.a.span.length = min(t.a.span.length, t.length)


cdef bint fit(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Cuts what lies beyond the window or the end; False when nothing is left.

    A FIN that has not been met yet is no end: which of it and the bytes at its place or behind it
    is forged, shows when reading comes there.
    """
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef int32_t over
    if rcv.flags & HALF_ACKING:
        over = seq_diff(text_end(t), rcv.edge)
        if unlikely(over > 0):
            anomaly(cs, f, s, ANOMALY_RIGHT_OF_WINDOW, C_TCP_OUTSIDE_WINDOW, over)
            if <uint32_t>over >= t.length:
                return False
            if target_linux(f, s):
                keep_overrun(cs, f, t, s)
                return False
            cut_back(t, over)
    if unlikely(snd.flags & HALF_FIN):
        over = seq_diff(text_end(t), f.fin[s])
        if over > 0:
            anomaly(cs, f, s, ANOMALY_DATA_AFTER_FIN, C_TCP_BEYOND_FIN, over)
            if not snd.flags & HALF_FIN_DONE:
                return True
            if <uint32_t>over >= t.length:
                return False
            cut_back(t, over)
    return True


cdef void keep_overrun(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Linux takes such a segment whole or not at all, as its application has read (docs/decisions/
    0040): what is next waits for the acknowledgement; what is early becomes a gap if it comes."""
    cdef Stream *st = f.stream[s]
    if st == NULL or st.n_pieces or seq_gt(t.a.seq, f.h[s].nxt):
        return
    if seq_gt(f.h[s].nxt, t.a.seq):
        cut_delivered(cs, f, t, s, f.h[s].nxt - t.a.seq)
    if seq_gt(text_end(t), f.h[s].top):
        f.h[s].top = text_end(t)
    if not st.policy & DELIVER_ACKED:    # there everything waits for it
        st.flags |= STREAM_OVERRUN
    keep_early(cs, f, t, s, TEXT_HOLD)


cdef void receive_overrun_refused(Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    st.flags &= ~<uint16_t>STREAM_OVERRUN
    if st.n_pieces and asm_first(st) == f.h[s].nxt:
        asm_drop_first(st)
        st.ready = f.h[s].nxt


cdef void receive_text(CoreState *cs, Flow *f, Packet *p, int s, uint32_t seq,
                       int how) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef Text t
    cdef int32_t ahead
    text_of(&t, cs, p, seq)
    if not how & TEXT_HOLD and not fit(cs, f, &t, s):
        return
    ahead = seq_diff(t.a.seq, snd.nxt)
    if unlikely(ahead < 0):
        cut_delivered(cs, f, &t, s, snd.nxt - t.a.seq)
        if t.length == 0 and not how & TEXT_FIN:
            return
    if seq_gt(text_end(&t), snd.top):
        snd.top = text_end(&t)
    if unlikely(not f.flags & FLOW_DATA) and not how & TEXT_HOLD and t.length:
        data_begins(cs, f)
    if unlikely(how & TEXT_FIN):
        note_fin(f, s, text_end(&t))
    if likely(ahead <= 0 and not how & TEXT_HOLD):
        deliver(cs, f, &t, s, how)
    elif f.stream[s] != NULL:
        keep_early(cs, f, &t, s, how)
    else:
        pass_over(cs, f, &t, s)


cdef void note_fin(Flow *f, int s, uint32_t fin) noexcept nogil:
    """Of several that have not been met, the first in order is the one to look out for."""
    cdef Half *snd = &f.h[s]
    if not snd.flags & HALF_FIN or seq_lt(fin, f.fin[s]):
        f.fin[s] = fin
    snd.flags = (snd.flags | HALF_FIN) & ~<uint16_t>HALF_CLAIMED
    f.flags &= ~<uint32_t>FLOW_OPEN


cdef inline void data_begins(CoreState *cs, Flow *f) noexcept nogil:
    if not f.flags & FLOW_DATA:
        f.flags |= FLOW_DATA
        flow_start(cs, f, START_DATA)


cdef void cut_delivered(CoreState *cs, Flow *f, Text *t, int s, uint32_t n) noexcept nogil:
    """The first n bytes, or all there are, were handed out before."""
    n = min(n, t.length)
    count_retransmission(cs, f, s)
    stats_retransmitted(f, s, n)
    if cs.wanted & REPEATS_WANTED:
        repeats_delivered(cs, f, s, &t.a, n)
    cut_front(t, n)


# ---- next in order -----------------------------------------------------------------------

cdef inline void deliver(CoreState *cs, Flow *f, Text *t, int s, int how) noexcept nogil:
    """Bytes that are next in order."""
    cdef Stream *st = f.stream[s]
    if st == NULL:
        delivery_advance(&f.h[s], t.length)
        if unlikely(event_wanted(cs, EVENT_NEW_DATA)) and t.length:     # not of a FIN alone
            delivery_tell_new(cs, f, s, f.h[s].offset - t.length, t.length, t.a.span.data,
                              t.a.span.length)
    elif unlikely(st.n_pieces != 0 or st.policy & DELIVER_ACKED):
        deliver_among(cs, f, t, s, how)
    else:
        hand_out(cs, f, st, t, s)
        delivery_done(cs, f, s)
    if unlikely(f.h[s].flags & HALF_FIN):
        meet_fin(cs, f, t, s, how)


cdef void meet_fin(CoreState *cs, Flow *f, const Text *t, int s, int how) noexcept nogil:
    """This one, which nothing contests when the store is empty; or one that came early."""
    cdef const Stream *st = f.stream[s]
    if (how & TEXT_FIN and f.h[s].nxt == text_end(t) and (st == NULL or not st.n_pieces)
            and not f.h[s].flags & HALF_FIN_DONE):
        delivery_end(cs, f, s)
    else:
        delivery_fin(cs, f, s)


cdef inline void hand_out(CoreState *cs, Flow *f, Stream *st, Text *t, int s) noexcept nogil:
    delivery_advance(&f.h[s], t.length)
    st.now_ns = cs.stamp
    st.now_order = cs.frames
    if unlikely(not append(cs, f, st, t, s)):
        cs.counters[C_MEMORY] += t.a.span.length
        delivery_give_up(cs, f, s, t.a.span.length, GAP_MEMORY)
    if unlikely(t.a.span.length < t.length):
        delivery_give_up(cs, f, s, t.length - t.a.span.length, GAP_SNAP_LENGTH)


cdef inline bint append(CoreState *cs, Flow *f, Stream *st, Text *t, int s) noexcept nogil:
    """False: memory was refused."""
    if unlikely(t.a.span.length == 0):
        return True
    if unlikely(not stream_append(st, &t.a.span)):
        return False
    if unlikely(event_wanted(cs, EVENT_NEW_DATA)):
        delivery_tell_new(cs, f, s, stream_end(st) + st.missing - t.a.span.length,
                          t.a.span.length, t.a.span.data, t.a.span.length)
    return True


cdef void deliver_among(CoreState *cs, Flow *f, Text *t, int s, int how) noexcept nogil:
    """Next in order while others wait in the store: those behind it, or (acked) all."""
    cdef Stream *st = f.stream[s]
    cdef uint32_t fin = (how & TEXT_FIN) >> 1
    if st.policy & DELIVER_ACKED or (seq_gt(text_end(t) + fin, asm_first(st))
                                     and t.a.span.length == t.length):
        if put(cs, f, t, s, how) & ASM_LIMIT:
            make_way(cs, f, t, s)
    else:
        hand_out(cs, f, st, t, s)
        if fin:
            put_fin(cs, f, t, s)
    delivery_drain(cs, f, s, delivery_due(f, s))
    delivery_done(cs, f, s)
    if st.policy & DELIVER_ACKED:
        delivery_watch(cs, f, s, text_end(t))


cdef void make_way(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """The store is full, or memory was refused: what is in order leaves it, acknowledged or not,
    and so does the rest of the segment that came."""
    cdef uint32_t first = delivery_due(f, s), more
    if seq_gt(f.h[s].nxt, first):
        first = f.h[s].nxt
    delivery_drain(cs, f, s, delivery_all(f, s))
    more = f.h[s].nxt - t.a.seq
    if more < t.length:
        cut_front(t, more)
        hand_out(cs, f, f.stream[s], t, s)
    if seq_gt(f.h[s].nxt, first):
        cs.counters[C_UNACKED_BYTES] += f.h[s].nxt - first


# ---- the store ---------------------------------------------------------------------------

cdef int put(CoreState *cs, Flow *f, Text *t, int s, int how) noexcept nogil:
    """Into the store, with what is to be told and counted of it; what asm_add() says."""
    cdef int result = 0
    t.a.end = text_end(t) + ((how & TEXT_FIN) >> 1)
    if t.length:
        result = put_text(cs, f, t, s)
    if unlikely(how & TEXT_FIN):
        result |= put_fin(cs, f, t, s)
    elif unlikely(f.h[s].flags & HALF_FIN):
        delivery_fin(cs, f, s)       # bytes may have taken its place
    return result


cdef int put_fin(CoreState *cs, Flow *f, const Text *t, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef uint32_t ready = receive_next(f, s)
    cdef int result
    if text_end(t) == f.h[s].nxt and not st.policy & DELIVER_ACKED:
        delivery_end(cs, f, s)       # nothing but the probe of a closed window can lie there
        return 0
    result = asm_fin(st, text_end(t), t.a.begin)
    if st.policy & DELIVER_ACKED:
        st.ready = asm_run(st, ready)
    delivery_fin(cs, f, s)
    return result


cdef int put_text(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef uint32_t ready = receive_next(f, s), before = st.early, new
    cdef int result
    if cs.wanted & REPEATS_WANTED and st.n_pieces:
        repeats_queued(cs, f, s, &t.a)
    result = asm_add(st, &t.a)
    new = st.early - before
    if seq_gt(t.a.seq, ready):
        stats_early(f, s, new)
    if result & ASM_DUPLICATE:
        stats_retransmitted(f, s, t.a.span.length - new)
    if not result & ASM_NEW:
        count_retransmission(cs, f, s)
    if result & ASM_DIFFERS:
        cs.counters[C_TCP_DIFFERING] += 1
    if st.policy & DELIVER_ACKED:
        st.ready = asm_run(st, ready)
    return result


cdef void keep_early(CoreState *cs, Flow *f, Text *t, int s, int how) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef bint early = seq_gt(t.a.seq, receive_next(f, s))
    cdef int result
    if early and t.length:
        note_out_of_order(cs, f, s, t)
    result = put(cs, f, t, s, how)
    if result & ASM_LIMIT and st.n_pieces:
        relieve(cs, f, t, s)
    if st.policy & DELIVER_ACKED:
        delivery_drain(cs, f, s, delivery_due(f, s))
        delivery_done(cs, f, s)
    if st.policy & DELIVER_ACKED and f.flags & FLOW_ESTABLISHED:
        delivery_watch(cs, f, s, text_end(t))
    else:
        delivery_watch(cs, f, s, t.a.seq)


cdef void note_out_of_order(CoreState *cs, Flow *f, int s, const Text *t) noexcept nogil:
    cs.counters[C_TCP_OUT_OF_ORDER] += 1
    event_raise(cs, f, EVENT_OUT_OF_ORDER, s, HOOK_RECEIVER, offset_of(f, s, t.a.seq),
                t.length, 0)


cdef void relieve(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """The store is full: bytes in order leave it unacknowledged, or the hole becomes a gap."""
    if asm_first(f.stream[s]) == f.h[s].nxt:
        make_way(cs, f, t, s)
    else:
        delivery_make_gap(cs, f, s, asm_first(f.stream[s]), GAP_OUT_OF_ORDER_LIMIT)


cdef void pass_over(CoreState *cs, Flow *f, const Text *t, int s) noexcept nogil:
    """A hole on a side that is counted, not kept: its bytes are counted when the receiver
    acknowledges them (delivery_acked); a receiver that is not seen never will."""
    if t.length and seq_gt(t.a.seq, f.h[s].nxt):
        note_out_of_order(cs, f, s, t)
    if not f.h[1 - s].flags & HALF_SEEN:
        delivery_advance(&f.h[s], text_end(t) - f.h[s].nxt)
    else:
        delivery_shown(cs, f, s)


# ---- holes -------------------------------------------------------------------------------

cdef void receive_held(Flow *f, int s, uint32_t seq) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if st != NULL and st.n_pieces:
        asm_truncate(st, seq)
        st.ready = asm_run(st, f.h[s].nxt)


cdef void receive_release(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef const Half *rcv = &f.h[1 - s]
    if st == NULL or not st.n_pieces or asm_first(st) != f.h[s].nxt:
        return
    if rcv.flags & HALF_ACKING and not seq_gt(rcv.ack, f.h[s].nxt):
        receive_held(f, s, f.h[s].nxt)   # its peer agreed, but did not take them
        return
    data_begins(cs, f)
    delivery_drain(cs, f, s, delivery_due(f, s))
    flow_tell(cs, f, s)


cdef void receive_policy(CoreState *cs, Flow *f, int s, uint8_t policy) noexcept nogil:
    """What waits in order, and need not any more, is handed out by a timer: this may be called
    between bursts, where nobody consumes records."""
    cdef Stream *st = f.stream[s]
    if st == NULL or st.policy == policy:
        return
    st.policy = policy
    st.ready = asm_run(st, f.h[s].nxt)
    if st.ready != f.h[s].nxt and not policy & DELIVER_ACKED:
        st.grace_due = cs.now
        st.grace_ack = f.h[s].nxt
        flow_arm(cs, f, cs.now)
