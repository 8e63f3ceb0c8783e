"""Text, FIN, holes."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from aiomos._engine.assembler cimport (ASM_DIFFERS, ASM_DUPLICATE, ASM_LIMIT, ASM_NEW, asm_add,
                                       asm_drain, asm_first, asm_truncate)
from aiomos._engine.flow cimport (FLOW_DATA, FLOW_ESTABLISHED, HALF_ACKING, HALF_CLAIMED, HALF_FIN,
                                  HALF_FIN_DONE, HALF_SEEN, Half, TCP_CLOSE_WAIT, TCP_CLOSING,
                                  TCP_ESTABLISHED, TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_TIME_WAIT)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport flow_arm, flow_start, flow_tell
from aiomos._engine.limits cimport (GAP_ACKED_UNSEEN, GAP_LOST, GAP_MEMORY,
                                    GAP_OUT_OF_ORDER_LIMIT, GAP_SNAP_LENGTH)
from aiomos._engine.seq cimport seq_diff, seq_ge, seq_gt, seq_lt
from aiomos._engine.state cimport (C_GAP_BYTES, C_GAPS, C_MEMORY, C_TCP_BEYOND_FIN,
                                   C_TCP_DIFFERING, C_TCP_OUT_OF_ORDER, C_TCP_OUTSIDE_WINDOW,
                                   START_DATA, count_retransmission, set_state)
from aiomos._engine.stats cimport stats_early, stats_gap, stats_retransmitted
from aiomos._engine.stream cimport (STREAM_EOF, Span, Stream, span_cut_front, stream_append,
                                    stream_gap)

# A payload on its way: what of it is left to place.
cdef struct Text:
    Span span                 # the captured part
    uint32_t seq
    uint32_t length           # bytes by the header; span.length of them captured


cdef inline void text_of(Text *t, CoreState *cs, Packet *p, uint32_t seq) noexcept nogil:
    t.seq = seq
    t.length = p.payload_len
    t.span.frame = p.frame
    t.span.offset = p.payload_off
    t.span.length = p.payload_cap
    t.span.data = NULL
    if unlikely(p.linear):
        t.span.data = cs.scratch + p.payload_off
    elif likely(p.payload_off + p.payload_cap <= p.frame.head_len):
        t.span.data = p.frame.data + p.payload_off


cdef inline void cut_front(Text *t, uint32_t n) noexcept nogil:
    t.seq += n
    t.length -= n
    span_cut_front(&t.span, min(n, t.span.length))


cdef inline void cut_back(Text *t, uint32_t n) noexcept nogil:
    t.length -= n
    t.span.length = min(t.span.length, t.length)


cdef bint fit(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Cuts what lies beyond the window or the FIN; False when nothing is left."""
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef int32_t over
    if rcv.flags & HALF_ACKING:
        over = seq_diff(t.seq + t.length, rcv.edge)
        if unlikely(over > 0):
            cs.counters[C_TCP_OUTSIDE_WINDOW] += 1
            if <uint32_t>over >= t.length:
                return False
            cut_back(t, over)
    if unlikely(snd.flags & HALF_FIN):
        over = seq_diff(t.seq + t.length, f.fin[s])
        if over > 0:
            cs.counters[C_TCP_BEYOND_FIN] += 1
            if <uint32_t>over >= t.length:
                return False
            cut_back(t, over)
    return True


cdef void receive_text(CoreState *cs, Flow *f, Packet *p, int s, uint32_t seq,
                       bint hold) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef Text t
    cdef int32_t ahead
    text_of(&t, cs, p, seq)
    if not fit(cs, f, &t, s):
        return
    ahead = seq_diff(t.seq, snd.nxt)
    if unlikely(ahead < 0):
        count_retransmission(cs, f, s)
        stats_retransmitted(f, s, min(snd.nxt - t.seq, t.length))
        if snd.nxt - t.seq >= t.length:
            return
        cut_front(&t, snd.nxt - t.seq)
    if seq_gt(t.seq + t.length, snd.top):
        snd.top = t.seq + t.length
    if unlikely(not f.flags & FLOW_DATA) and not hold:
        data_begins(cs, f)
    if likely(ahead <= 0 and not hold):
        deliver(cs, f, &t, s)
    elif f.stream[s] != NULL:
        keep_early(cs, f, &t, s)
    else:
        pass_over(f, &t, s)


cdef inline void data_begins(CoreState *cs, Flow *f) noexcept nogil:
    if not f.flags & FLOW_DATA:
        f.flags |= FLOW_DATA
        flow_start(cs, f, START_DATA)


cdef inline void advance(Half *snd, uint32_t n) noexcept nogil:
    snd.nxt += n
    snd.offset += n


cdef inline void deliver(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Bytes that are next in order."""
    cdef Half *snd = &f.h[s]
    cdef Stream *st = f.stream[s]
    advance(snd, t.length)
    if st != NULL:
        st.now_ns = cs.stamp
        append(cs, f, st, t, s)
        if st.n_pieces:
            drain(cs, f, s)
        if unlikely(st.grace_due):
            settle_grace(cs, f, s)
        if unlikely(st.fill >= st.full):
            cs.full = True
        flow_tell(cs, f, s)
    if unlikely(snd.flags & HALF_FIN):
        receive_fin(cs, f, s)


cdef inline void append(CoreState *cs, Flow *f, Stream *st, Text *t, int s) noexcept nogil:
    if t.span.length and unlikely(not stream_append(st, &t.span)):
        cs.counters[C_MEMORY] += t.span.length
        count_gap(cs, f, s, t.span.length)
        stream_gap(st, t.span.length, GAP_MEMORY)
    if unlikely(t.span.length < t.length):
        count_gap(cs, f, s, t.length - t.span.length)
        stream_gap(st, t.length - t.span.length, GAP_SNAP_LENGTH)


cdef inline void count_gap(CoreState *cs, Flow *f, int s, uint32_t length) noexcept nogil:
    f.gaps[s] += 1
    stats_gap(f, s, length)
    cs.counters[C_GAPS] += 1
    cs.counters[C_GAP_BYTES] += length


cdef void drain(CoreState *cs, Flow *f, int s) noexcept nogil:
    """Early bytes that have become next; those for which memory is refused become a gap."""
    cdef Half *snd = &f.h[s]
    cdef Stream *st = f.stream[s]
    cdef bint failed = True
    cdef uint32_t nxt
    st.now_ns = cs.stamp
    while failed:
        nxt = asm_drain(st, snd.nxt, &failed)
        advance(snd, nxt - snd.nxt)
        if failed:
            give_up_first(cs, f, s)


cdef void give_up_first(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The first early piece, which is next, cannot be delivered."""
    cdef Stream *st = f.stream[s]
    cdef uint32_t n = asm_first(st) + st.pieces[0].length - f.h[s].nxt
    cs.counters[C_MEMORY] += n
    count_gap(cs, f, s, n)
    stream_gap(st, n, GAP_MEMORY)
    advance(&f.h[s], n)


cdef void keep_early(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef uint32_t before = st.early
    cdef int result = asm_add(st, &t.span, t.seq)
    if t.seq != f.h[s].nxt:
        cs.counters[C_TCP_OUT_OF_ORDER] += 1
        stats_early(f, s, st.early - before)
    if result & ASM_DUPLICATE:
        stats_retransmitted(f, s, t.span.length - (st.early - before))
    if not result & ASM_NEW:
        count_retransmission(cs, f, s)
    if result & ASM_DIFFERS:
        cs.counters[C_TCP_DIFFERING] += 1
    if result & ASM_LIMIT and st.n_pieces:
        make_gap(cs, f, s, asm_first(st), GAP_OUT_OF_ORDER_LIMIT)
    if not f.h[1 - s].flags & HALF_SEEN:
        start_grace(cs, f, s, t.seq, cs.config.one_sided_grace_ns)
    elif f.h[1 - s].flags & HALF_ACKING and seq_gt(f.h[1 - s].ack, f.h[s].nxt):
        start_grace(cs, f, s, f.h[1 - s].ack, cs.config.reorder_grace_ns)


cdef void pass_over(Flow *f, const Text *t, int s) noexcept nogil:
    """A hole on a side that is counted, not kept: its bytes are counted when the receiver
    acknowledges them (receive_acked); a receiver that is not seen never will."""
    if not f.h[1 - s].flags & HALF_SEEN:
        advance(&f.h[s], t.seq + t.length - f.h[s].nxt)


# ---- holes -------------------------------------------------------------------------------

cdef void receive_acked(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if f.stream[s] != NULL:
        start_grace(cs, f, s, ack, cs.config.reorder_grace_ns)
        return
    if snd.flags & HALF_FIN and seq_gt(ack, f.fin[s]):
        ack = f.fin[s]
    if seq_gt(ack, snd.nxt):
        advance(snd, ack - snd.nxt)
        claimed(f, s)
    receive_fin(cs, f, s)


cdef inline void claimed(Flow *f, int s) noexcept nogil:
    """nxt stands where an acknowledgement put it: its last "byte" may turn out to be a FIN."""
    if not f.h[s].flags & HALF_FIN:
        f.h[s].flags |= HALF_CLAIMED
        f.fin[s] = f.h[s].nxt


cdef void start_grace(CoreState *cs, Flow *f, int s, uint32_t ack, int64_t grace) noexcept nogil:
    """The hole in front becomes a gap when this time has gone by and it is still there."""
    cdef Stream *st = f.stream[s]
    if st.grace_due or not seq_gt(ack, f.h[s].nxt):
        return
    if f.h[s].flags & HALF_FIN and ack == f.fin[s] + 1 and f.h[s].nxt == f.fin[s]:
        return
    st.grace_due = cs.now + grace
    st.grace_ack = ack
    flow_arm(cs, f, st.grace_due)


cdef void settle_grace(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The hole was filled; perhaps there is another one behind it."""
    cdef Stream *st = f.stream[s]
    if seq_ge(f.h[s].nxt, st.grace_ack):
        st.grace_due = 0
        watch_next_hole(cs, f, s)


cdef void watch_next_hole(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef const Half *rcv = &f.h[1 - s]
    if rcv.flags & HALF_ACKING:
        start_grace(cs, f, s, rcv.ack, cs.config.reorder_grace_ns)
    elif not rcv.flags & HALF_SEEN and f.stream[s].n_pieces:
        start_grace(cs, f, s, asm_first(f.stream[s]), cs.config.one_sided_grace_ns)


cdef bint make_gap(CoreState *cs, Flow *f, int s, uint32_t upto, uint32_t cause) noexcept nogil:
    """Gives up the bytes [nxt, upto) and delivers what follows them; False: there are none."""
    cdef Half *snd = &f.h[s]
    cdef Stream *st = f.stream[s]
    if snd.flags & HALF_FIN and seq_gt(upto, f.fin[s]):
        upto = f.fin[s]
    if not seq_gt(upto, snd.nxt):
        return False
    count_gap(cs, f, s, upto - snd.nxt)
    stream_gap(st, upto - snd.nxt, cause)
    advance(snd, upto - snd.nxt)
    claimed(f, s)
    drain(cs, f, s)
    flow_tell(cs, f, s)
    receive_fin(cs, f, s)
    return True


cdef inline uint32_t hole_end(const Stream *st, uint32_t limit) noexcept nogil:
    """Where the hole in front ends: at the first early byte, at the limit otherwise."""
    if st.n_pieces and seq_lt(asm_first(st), limit):
        return asm_first(st)
    return limit


cdef void receive_hole_due(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef uint32_t limit
    cdef uint8_t cause
    if st == NULL or st.grace_due == 0 or st.grace_due > cs.now:
        return
    limit = st.grace_ack
    cause = GAP_ACKED_UNSEEN if f.h[1 - s].flags & HALF_SEEN else GAP_LOST
    st.grace_due = 0
    while not at_fin(f, s) and make_gap(cs, f, s, hole_end(st, limit), cause):
        pass
    watch_next_hole(cs, f, s)


cdef inline bint at_fin(const Flow *f, int s) noexcept nogil:
    return f.h[s].flags & HALF_FIN and seq_ge(f.h[s].nxt, f.fin[s])


cdef void receive_flush(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef uint32_t limit
    if st == NULL:
        return
    st.grace_due = 0
    limit = f.h[1 - s].ack if f.h[1 - s].flags & HALF_ACKING else f.h[s].nxt
    if not f.flags & FLOW_ESTABLISHED:
        asm_truncate(st, f.h[s].nxt)     # data on a SYN that nobody acknowledged
    while not at_fin(f, s) and make_gap(cs, f, s, hole_end(st, limit), GAP_ACKED_UNSEEN):
        pass
    while not at_fin(f, s) and st.n_pieces and make_gap(cs, f, s, asm_first(st), GAP_LOST):
        pass


cdef void receive_held(Flow *f, int s, uint32_t seq) noexcept nogil:
    if f.stream[s] != NULL and f.stream[s].n_pieces:
        asm_truncate(f.stream[s], seq)


cdef void receive_release(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef const Half *rcv = &f.h[1 - s]
    if st == NULL or not st.n_pieces or asm_first(st) != f.h[s].nxt:
        return
    if rcv.flags & HALF_ACKING and not seq_gt(rcv.ack, f.h[s].nxt):
        receive_held(f, s, f.h[s].nxt)   # its peer agreed, but did not take them
        return
    data_begins(cs, f)
    drain(cs, f, s)
    flow_tell(cs, f, s)


# ---- end of stream -----------------------------------------------------------------------

cdef void receive_fin(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The FIN of s counts once everything before it has been received."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if not snd.flags & HALF_FIN or snd.flags & HALF_FIN_DONE or snd.nxt != f.fin[s]:
        return
    snd.flags |= HALF_FIN_DONE
    snd.nxt += 1
    if rcv.state == TCP_ESTABLISHED:
        set_state(cs, f, 1 - s, TCP_CLOSE_WAIT)
    elif rcv.state == TCP_FIN_WAIT_1:
        set_state(cs, f, 1 - s, TCP_CLOSING)
    elif rcv.state == TCP_FIN_WAIT_2:
        set_state(cs, f, 1 - s, TCP_TIME_WAIT)
    if f.stream[s] != NULL:
        f.stream[s].flags |= STREAM_EOF
        asm_truncate(f.stream[s], f.fin[s])
        flow_tell(cs, f, s)
