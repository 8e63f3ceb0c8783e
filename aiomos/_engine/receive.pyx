"""Text, FIN, holes."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from aiomos._engine.assembler cimport (ASM_DIFFERS, ASM_LIMIT, ASM_NEW, Arrival, asm_add,
                                       asm_drain, asm_end, asm_first, asm_run, asm_truncate)
from aiomos._engine.events cimport (EVENT_GAP, EVENT_NEW_DATA, EVENT_OUT_OF_ORDER, HOOK_RECEIVER,
                                    HOOK_TIMER)
from aiomos._engine.flow cimport (FLOW_DATA, FLOW_ESTABLISHED, HALF_ACKING, HALF_CLAIMED, HALF_FIN,
                                  HALF_FIN_DONE, HALF_SEEN, Half, TCP_CLOSE_WAIT, TCP_CLOSING,
                                  TCP_ESTABLISHED, TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_TIME_WAIT)
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.life cimport flow_arm, flow_start, flow_tell
from aiomos._engine.limits cimport (GAP_ACKED_UNSEEN, GAP_LOST, GAP_MEMORY,
                                    GAP_OUT_OF_ORDER_LIMIT, GAP_SNAP_LENGTH)
from aiomos._engine.repeats cimport (REPEATS_WANTED, offset_of, repeats_delivered, repeats_queued)
from aiomos._engine.seq cimport seq_diff, seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.state cimport (C_GAP_BYTES, C_GAPS, C_MEMORY, C_TCP_BEYOND_FIN,
                                   C_TCP_DIFFERING, C_TCP_OUT_OF_ORDER, C_TCP_OUTSIDE_WINDOW,
                                   C_TCP_RETRANSMITTED, C_UNACKED_BYTES, START_DATA, event_raise,
                                   event_raise_bytes, event_wanted, set_state)
from aiomos._engine.stream cimport (STREAM_EOF, STREAM_STOPPED, STREAM_UNREAD, Stream, span_cut_front, stream_append,
                                    stream_end, stream_gap)

cdef enum:
    FAR = 1 << 30             # of sequence numbers: behind all that can be in the store

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
    """Cuts what lies beyond the window or the FIN; False when nothing is left."""
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    cdef int32_t over
    if rcv.flags & HALF_ACKING:
        over = seq_diff(text_end(t), rcv.edge)
        if unlikely(over > 0):
            cs.counters[C_TCP_OUTSIDE_WINDOW] += 1
            if <uint32_t>over >= t.length:
                return False
            cut_back(t, over)
    if unlikely(snd.flags & HALF_FIN):
        over = seq_diff(text_end(t), snd.fin)
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
    ahead = seq_diff(t.a.seq, snd.nxt)
    if unlikely(ahead < 0):
        cut_delivered(cs, f, &t, s, <uint32_t>-ahead)
        if t.length == 0:
            return
    if seq_gt(text_end(&t), snd.top):
        snd.top = text_end(&t)
    if unlikely(not f.flags & FLOW_DATA) and not hold:
        data_begins(cs, f)
    if likely(ahead <= 0 and not hold):
        deliver(cs, f, &t, s)
    elif f.stream[s] != NULL:
        keep_early(cs, f, &t, s)
    else:
        pass_over(cs, f, &t, s)


cdef inline void data_begins(CoreState *cs, Flow *f) noexcept nogil:
    if not f.flags & FLOW_DATA:
        f.flags |= FLOW_DATA
        flow_start(cs, f, START_DATA)


cdef void note_retransmission(CoreState *cs, Flow *f, int s) noexcept nogil:
    cs.counters[C_TCP_RETRANSMITTED] += 1
    f.retransmissions[s] += 1


cdef void cut_delivered(CoreState *cs, Flow *f, Text *t, int s, uint32_t n) noexcept nogil:
    """The first n bytes, or all there are, were handed out before."""
    n = min(n, t.length)
    note_retransmission(cs, f, s)
    if cs.wanted & REPEATS_WANTED:
        repeats_delivered(cs, f, s, &t.a, n)
    cut_front(t, n)


cdef inline void advance(Half *snd, uint32_t n) noexcept nogil:
    snd.nxt += n
    snd.offset += n


# ---- next in order -----------------------------------------------------------------------

cdef inline void deliver(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Bytes that are next in order."""
    cdef Stream *st = f.stream[s]
    if st == NULL:
        advance(&f.h[s], t.length)
        if unlikely(event_wanted(cs, EVENT_NEW_DATA)):
            tell_new(cs, f, s, f.h[s].offset - t.length, t.length, t.a.span.data,
                     t.a.span.length)
    elif unlikely(st.n_pieces != 0 or st.policy & DELIVER_ACKED):
        deliver_among(cs, f, t, s)
    else:
        hand_out(cs, f, st, t, s)
        after_delivery(cs, f, s)
    if unlikely(f.h[s].flags & HALF_FIN):
        receive_fin(cs, f, s)


cdef inline void hand_out(CoreState *cs, Flow *f, Stream *st, Text *t, int s) noexcept nogil:
    advance(&f.h[s], t.length)
    st.now_ns = cs.stamp
    if unlikely(not append(cs, f, st, t, s)):
        cs.counters[C_MEMORY] += t.a.span.length
        give_up(cs, f, s, t.a.span.length, GAP_MEMORY)
    if unlikely(t.a.span.length < t.length):
        give_up(cs, f, s, t.length - t.a.span.length, GAP_SNAP_LENGTH)


cdef inline void after_delivery(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if unlikely(st.grace_due):
        settle_grace(cs, f, s)
    if unlikely(st.fill >= st.full):
        cs.full = True
    flow_tell(cs, f, s)


cdef inline bint append(CoreState *cs, Flow *f, Stream *st, Text *t, int s) noexcept nogil:
    """False: memory was refused."""
    if unlikely(t.a.span.length == 0):
        return True
    if unlikely(not stream_append(st, &t.a.span)):
        return False
    if unlikely(event_wanted(cs, EVENT_NEW_DATA)):
        tell_new(cs, f, s, stream_end(st) + st.missing - t.a.span.length, t.a.span.length,
                 t.a.span.data, t.a.span.length)
    return True


cdef void tell_new(CoreState *cs, Flow *f, int s, uint64_t offset, uint32_t length,
                   const uint8_t *data, uint32_t n) noexcept nogil:
    event_raise_bytes(cs, f, EVENT_NEW_DATA, s, HOOK_RECEIVER if cs.packet != NULL else HOOK_TIMER,
                      offset, length, 0, NULL, 0, data, n if data != NULL else 0)


cdef void give_up(CoreState *cs, Flow *f, int s, uint32_t length, uint32_t cause) noexcept nogil:
    """A gap behind the last byte handed out."""
    cdef Stream *st = f.stream[s]
    f.gaps[s] += 1
    cs.counters[C_GAPS] += 1
    cs.counters[C_GAP_BYTES] += length
    event_raise(cs, f, EVENT_GAP, s, HOOK_RECEIVER if cs.packet != NULL else HOOK_TIMER,
                stream_end(st) + st.missing, length, cause)
    stream_gap(st, length, cause)


cdef void deliver_among(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Next in order while others wait in the store: those behind it, or (acked) all."""
    cdef Stream *st = f.stream[s]
    if st.policy & DELIVER_ACKED or (seq_gt(text_end(t), asm_first(st))
                                     and t.a.span.length == t.length):
        if put(cs, f, t, s) & ASM_LIMIT:
            make_way(cs, f, t, s)
    else:
        hand_out(cs, f, st, t, s)
    drain(cs, f, s, due(f, s))
    after_delivery(cs, f, s)


cdef void make_way(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """The store is full, or memory was refused: what is in order leaves it, acknowledged or not,
    and so does the rest of the segment that came."""
    cdef uint32_t first = due(f, s), more
    if seq_gt(f.h[s].nxt, first):
        first = f.h[s].nxt
    drain(cs, f, s, everything(f, s))
    more = f.h[s].nxt - t.a.seq
    if more < t.length:
        cut_front(t, more)
        hand_out(cs, f, f.stream[s], t, s)
    if seq_gt(f.h[s].nxt, first):
        cs.counters[C_UNACKED_BYTES] += f.h[s].nxt - first


# ---- the store ---------------------------------------------------------------------------

cdef int put(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """Into the store, with what is to be told and counted of it; what asm_add() says."""
    cdef Stream *st = f.stream[s]
    cdef uint32_t ready = receive_next(f, s)
    cdef int result
    if cs.wanted & REPEATS_WANTED and st.n_pieces:
        repeats_queued(cs, f, s, &t.a)
    result = asm_add(st, &t.a)
    if not result & ASM_NEW:
        note_retransmission(cs, f, s)
    if result & ASM_DIFFERS:
        cs.counters[C_TCP_DIFFERING] += 1
    if st.policy & DELIVER_ACKED:
        st.ready = asm_run(st, ready)
    return result


cdef inline uint32_t everything(const Flow *f, int s) noexcept nogil:
    return f.h[s].nxt + FAR


cdef inline uint32_t due(const Flow *f, int s) noexcept nogil:
    """Up to where bytes may be handed out, if they are there."""
    if not f.stream[s].policy & DELIVER_ACKED:
        return everything(f, s)
    return f.h[1 - s].ack if f.h[1 - s].flags & HALF_ACKING else f.h[s].nxt


cdef void drain(CoreState *cs, Flow *f, int s, uint32_t upto) noexcept nogil:
    """Early bytes that have become next; those for which memory is refused become a gap."""
    cdef Stream *st = f.stream[s]
    cdef bint failed = True
    cdef uint32_t nxt
    st.now_ns = cs.stamp
    while failed and st.n_pieces and seq_le(asm_first(st), f.h[s].nxt):
        nxt = asm_drain(st, f.h[s].nxt, upto, &failed)
        if nxt != f.h[s].nxt:
            drained(cs, f, s, nxt - f.h[s].nxt)
        if failed:
            give_up_first(cs, f, s)


cdef void drained(CoreState *cs, Flow *f, int s, uint32_t n) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef const uint8_t *data = NULL
    advance(&f.h[s], n)
    if event_wanted(cs, EVENT_NEW_DATA):
        if not st.flags & (STREAM_STOPPED | STREAM_UNREAD):   # else they are counted, not kept
            data = st.buffer + st.start + st.fill - n
        tell_new(cs, f, s, stream_end(st) + st.missing - n, n, data, n)


cdef void give_up_first(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The first early piece, which is next, cannot be delivered."""
    cdef Stream *st = f.stream[s]
    cdef uint32_t n = asm_first(st) + st.pieces[0].length - f.h[s].nxt
    cs.counters[C_MEMORY] += n
    give_up(cs, f, s, n, GAP_MEMORY)
    advance(&f.h[s], n)


cdef void keep_early(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef bint early = seq_gt(t.a.seq, receive_next(f, s))
    cdef int result
    if early:
        note_out_of_order(cs, f, s, t)
    result = put(cs, f, t, s)
    if result & ASM_LIMIT and st.n_pieces:
        relieve(cs, f, t, s)
    if st.policy & DELIVER_ACKED:
        drain(cs, f, s, due(f, s))
        after_delivery(cs, f, s)
    if st.policy & DELIVER_ACKED and f.flags & FLOW_ESTABLISHED:
        watch_hole(cs, f, s, text_end(t))
    else:
        watch_hole(cs, f, s, t.a.seq)


cdef void note_out_of_order(CoreState *cs, Flow *f, int s, const Text *t) noexcept nogil:
    cs.counters[C_TCP_OUT_OF_ORDER] += 1
    event_raise(cs, f, EVENT_OUT_OF_ORDER, s, HOOK_RECEIVER, offset_of(f, s, t.a.seq),
                t.length, 0)


cdef void relieve(CoreState *cs, Flow *f, Text *t, int s) noexcept nogil:
    """The store is full: bytes in order leave it unacknowledged, or the hole becomes a gap."""
    if asm_first(f.stream[s]) == f.h[s].nxt:
        make_way(cs, f, t, s)
    else:
        make_gap(cs, f, s, asm_first(f.stream[s]), GAP_OUT_OF_ORDER_LIMIT)


cdef void pass_over(CoreState *cs, Flow *f, const Text *t, int s) noexcept nogil:
    """A hole on a side that is counted, not kept: its bytes are counted when the receiver
    acknowledges them (receive_acked); a receiver that is not seen never will."""
    if seq_gt(t.a.seq, f.h[s].nxt):
        note_out_of_order(cs, f, s, t)
    if not f.h[1 - s].flags & HALF_SEEN:
        advance(&f.h[s], text_end(t) - f.h[s].nxt)


# ---- holes -------------------------------------------------------------------------------

cdef void receive_acked(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if f.stream[s] != NULL:
        if f.stream[s].policy & DELIVER_ACKED:
            acked_arrives(cs, f, s, ack)
        start_grace(cs, f, s, ack, cs.config.reorder_grace_ns)
        return
    if snd.flags & HALF_FIN and seq_gt(ack, snd.fin):
        ack = snd.fin
    if seq_gt(ack, snd.nxt):
        advance(snd, ack - snd.nxt)
        claimed(snd)
    receive_fin(cs, f, s)


cdef void acked_arrives(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil:
    """Bytes that waited for this acknowledgement are handed out."""
    cdef uint32_t nxt = f.h[s].nxt
    drain(cs, f, s, ack)
    if f.h[s].nxt != nxt:
        after_delivery(cs, f, s)
        receive_fin(cs, f, s)


cdef inline void claimed(Half *snd) noexcept nogil:
    """nxt stands where an acknowledgement put it: its last "byte" may turn out to be a FIN."""
    if not snd.flags & HALF_FIN:
        snd.flags |= HALF_CLAIMED
        snd.fin = snd.nxt


cdef void start_grace(CoreState *cs, Flow *f, int s, uint32_t ack, int64_t grace) noexcept nogil:
    """The hole in front becomes a gap when this time has gone by and it is still there."""
    cdef Stream *st = f.stream[s]
    if st.grace_due or not seq_gt(ack, f.h[s].nxt):
        return
    if f.h[s].flags & HALF_FIN and ack == f.h[s].fin + 1 and f.h[s].nxt == f.h[s].fin:
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


cdef void watch_hole(CoreState *cs, Flow *f, int s, uint32_t unseen) noexcept nogil:
    """Of a receiver that is not in the capture, what it acknowledges will never be known: bytes
    up to `unseen` are due after a time of their own."""
    cdef const Half *rcv = &f.h[1 - s]
    if not rcv.flags & HALF_SEEN:
        start_grace(cs, f, s, unseen, cs.config.one_sided_grace_ns)
    elif rcv.flags & HALF_ACKING:
        start_grace(cs, f, s, rcv.ack, cs.config.reorder_grace_ns)


cdef void watch_next_hole(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef const Stream *st = f.stream[s]
    cdef uint32_t unseen = f.h[s].nxt
    if st.n_pieces:
        unseen = asm_end(st) if st.policy & DELIVER_ACKED else asm_first(st)
    watch_hole(cs, f, s, unseen)


cdef bint make_gap(CoreState *cs, Flow *f, int s, uint32_t upto, uint32_t cause) noexcept nogil:
    """Gives up the bytes [nxt, upto) and delivers what follows them; False: there are none."""
    cdef Half *snd = &f.h[s]
    if snd.flags & HALF_FIN and seq_gt(upto, snd.fin):
        upto = snd.fin
    if not seq_gt(upto, snd.nxt):
        return False
    give_up(cs, f, s, upto - snd.nxt, cause)
    advance(snd, upto - snd.nxt)
    claimed(snd)
    if f.stream[s].policy & DELIVER_ACKED:
        f.stream[s].ready = asm_run(f.stream[s], snd.nxt)
    drain(cs, f, s, due(f, s))
    flow_tell(cs, f, s)
    receive_fin(cs, f, s)
    return True


cdef inline uint32_t hole_end(const Stream *st, uint32_t limit) noexcept nogil:
    """Where the hole in front ends: at the first early byte, at the limit otherwise."""
    if st.n_pieces and seq_lt(asm_first(st), limit):
        return asm_first(st)
    return limit


cdef void give_up_to(CoreState *cs, Flow *f, int s, uint32_t limit, uint32_t cause) noexcept nogil:
    """Everything before the limit: handed out if it is here, a gap if not."""
    cdef bint more = True
    while more and not at_fin(&f.h[s]):
        drain(cs, f, s, limit if f.stream[s].policy & DELIVER_ACKED else everything(f, s))
        more = not at_fin(&f.h[s]) and make_gap(cs, f, s, hole_end(f.stream[s], limit), cause)


cdef void receive_hole_due(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if st == NULL or st.grace_due == 0 or st.grace_due > cs.now:
        return
    st.grace_due = 0
    give_up_to(cs, f, s, st.grace_ack,
               GAP_ACKED_UNSEEN if f.h[1 - s].flags & HALF_SEEN else GAP_LOST)
    flow_tell(cs, f, s)
    receive_fin(cs, f, s)
    if not st.grace_due:
        watch_next_hole(cs, f, s)


cdef inline bint at_fin(const Half *snd) noexcept nogil:
    return snd.flags & HALF_FIN and seq_ge(snd.nxt, snd.fin)


cdef void receive_flush(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if st == NULL:
        return
    st.grace_due = 0
    if not f.flags & FLOW_ESTABLISHED:
        asm_truncate(st, f.h[s].nxt)     # data on a SYN that nobody acknowledged
    if f.h[1 - s].flags & HALF_ACKING:
        give_up_to(cs, f, s, f.h[1 - s].ack, GAP_ACKED_UNSEEN)
    if st.n_pieces:
        give_up_to(cs, f, s, asm_end(st), GAP_LOST)
    receive_fin(cs, f, s)


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
    drain(cs, f, s, due(f, s))
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


# ---- end of stream -----------------------------------------------------------------------

cdef void receive_fin(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The FIN of s counts once everything before it has been received."""
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    if not snd.flags & HALF_FIN or snd.flags & HALF_FIN_DONE or snd.nxt != snd.fin:
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
        asm_truncate(f.stream[s], snd.fin)
        flow_tell(cs, f, s)
