"""Out of the store, into gaps, to the end."""
from libc.stdint cimport uint16_t

from aiomos._engine.assembler cimport (asm_drain, asm_drop_first, asm_end, asm_fin_first, asm_first,
                                       asm_run, asm_truncate)
from aiomos._engine.events cimport (ANOMALY_URGENT, EVENT_GAP, EVENT_NEW_DATA, HOOK_RECEIVER,
                                    HOOK_TIMER)
from aiomos._engine.flow cimport (FLOW_ESTABLISHED, HALF_ACKING, HALF_CLAIMED, HALF_FIN,
                                  HALF_FIN_DONE, HALF_SEEN, HALF_URGENT, Half, TCP_CLOSE_WAIT,
                                  TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT_1, TCP_FIN_WAIT_2,
                                  TCP_TIME_WAIT)
from aiomos._engine.life cimport flow_arm, flow_reopen
from aiomos._engine.limits cimport GAP_ACKED_UNSEEN, GAP_LOST, GAP_MEMORY, GAP_URGENT, URGENT_GAP
from aiomos._engine.overlap cimport urgent_policy
from aiomos._engine.seq cimport seq_ge, seq_gt, seq_le, seq_lt
from aiomos._engine.state cimport (C_GAP_BYTES, C_GAPS, C_MEMORY, C_TCP_URGENT, anomaly,
                                   event_raise, event_raise_bytes, event_wanted, set_state)
from aiomos._engine.stats cimport stats_gap
from aiomos._engine.stream cimport (STREAM_EOF, STREAM_OVERRUN, STREAM_STOPPED, STREAM_UNREAD,
                                    STREAM_URGENT_SEEN, Stream, stream_end, stream_gap)


cdef void delivery_tell_new(CoreState *cs, Flow *f, int s, uint64_t offset, uint32_t length,
                   const uint8_t *data, uint32_t n) noexcept nogil:
    event_raise_bytes(cs, f, EVENT_NEW_DATA, s, HOOK_RECEIVER if cs.packet != NULL else HOOK_TIMER,
                      offset, length, 0, NULL, 0, data, n if data != NULL else 0)


cdef void delivery_give_up(CoreState *cs, Flow *f, int s, uint32_t length,
                           uint32_t cause) noexcept nogil:
    cdef Stream *st = f.stream[s]
    f.gaps[s] += 1
    stats_gap(f, s, length)
    cs.counters[C_GAPS] += 1
    cs.counters[C_GAP_BYTES] += length
    event_raise(cs, f, EVENT_GAP, s, HOOK_RECEIVER if cs.packet != NULL else HOOK_TIMER,
                stream_end(st) + st.missing, length, cause)
    stream_gap(st, length, cause)


# ---- from the store ----------------------------------------------------------------------

cdef void delivery_drain(CoreState *cs, Flow *f, int s, uint32_t upto) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef bint failed = True
    cdef uint32_t nxt
    st.now_ns = cs.stamp
    st.now_order = cs.frames
    while urgent_passed(cs, f, s) or failed and st.n_pieces and seq_le(asm_first(st), f.h[s].nxt):
        nxt = asm_drain(st, f.h[s].nxt, upto, &failed)
        if nxt != f.h[s].nxt:
            drained(cs, f, s, nxt - f.h[s].nxt)
        if failed:
            give_up_first(cs, f, s)
    if f.h[s].flags & HALF_FIN:
        delivery_fin(cs, f, s)


cdef inline bint urgent_passed(CoreState *cs, Flow *f, int s) noexcept nogil:
    return f.h[s].flags & HALF_URGENT and pass_urgent(cs, f, s)


cdef bint pass_urgent(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The urgent byte is next: it is no part of the stream, or a gap in it."""
    cdef Stream *st = f.stream[s]
    cdef bint now = st.urgent == f.h[s].nxt and st.flags & STREAM_URGENT_SEEN
    if seq_lt(f.h[s].nxt, st.urgent) or st.urgent == f.h[s].nxt and not now:
        return False
    f.h[s].flags &= ~<uint16_t>HALF_URGENT
    flow_reopen(f)
    if not now:
        return False
    anomaly(cs, f, s, ANOMALY_URGENT, C_TCP_URGENT, 1)
    f.h[s].nxt += 1
    if urgent_policy(st.policy) == URGENT_GAP or st.urgent_bytes >= cs.config.oob_limit:
        f.h[s].offset += 1
        delivery_give_up(cs, f, s, 1, GAP_URGENT)
    if st.urgent_bytes < 65535:
        st.urgent_bytes += 1
    return True


cdef void drained(CoreState *cs, Flow *f, int s, uint32_t n) noexcept nogil:
    cdef Stream *st = f.stream[s]
    cdef const uint8_t *data = NULL
    delivery_advance(&f.h[s], n)
    if event_wanted(cs, EVENT_NEW_DATA):
        if not st.flags & (STREAM_STOPPED | STREAM_UNREAD):   # else they are counted, not kept
            data = st.buffer + st.start + st.fill - n
        delivery_tell_new(cs, f, s, stream_end(st) + st.missing - n, n, data, n)


cdef void give_up_first(CoreState *cs, Flow *f, int s) noexcept nogil:
    """The first early piece, which is next, cannot be delivered."""
    cdef Stream *st = f.stream[s]
    cdef uint32_t n = asm_first(st) + st.pieces[0].length - f.h[s].nxt
    cs.counters[C_MEMORY] += n
    delivery_give_up(cs, f, s, n, GAP_MEMORY)
    delivery_advance(&f.h[s], n)


cdef void acked_arrives(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil:
    """Bytes that waited for this acknowledgement are handed out."""
    cdef uint32_t nxt = f.h[s].nxt
    f.stream[s].flags &= ~<uint16_t>STREAM_OVERRUN
    delivery_drain(cs, f, s, ack)
    if f.h[s].nxt != nxt:
        delivery_done(cs, f, s)


cdef void delivery_acked(CoreState *cs, Flow *f, int s, uint32_t ack) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if f.stream[s] != NULL:
        if f.stream[s].n_pieces and asm_first(f.stream[s]) == snd.nxt:
            acked_arrives(cs, f, s, ack)
        start_grace(cs, f, s, ack, cs.config.reorder_grace_ns)
        return
    if snd.flags & HALF_FIN and ack == f.fin[s] + 1:
        ack = f.fin[s]
    if seq_gt(ack, snd.nxt):
        delivery_advance(snd, ack - snd.nxt)
        claimed(f, s)
    delivery_fin(cs, f, s)


cdef void delivery_shown(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef const Half *snd = &f.h[s]
    cdef const Half *rcv = &f.h[1 - s]
    if rcv.flags & HALF_ACKING and seq_gt(rcv.ack, snd.nxt) and not snd.flags & HALF_FIN_DONE:
        delivery_acked(cs, f, s, snd.top if seq_gt(rcv.ack, snd.top) else rcv.ack)


# ---- holes -------------------------------------------------------------------------------

cdef inline void claimed(Flow *f, int s) noexcept nogil:
    """nxt stands where an acknowledgement put it: its last "byte" may turn out to be a FIN."""
    if not f.h[s].flags & HALF_FIN:
        f.h[s].flags |= HALF_CLAIMED
        f.fin[s] = f.h[s].nxt


cdef void start_grace(CoreState *cs, Flow *f, int s, uint32_t ack, int64_t grace) noexcept nogil:
    """The hole in front becomes a gap when this time has gone by and it is still there."""
    cdef Stream *st = f.stream[s]
    if seq_gt(ack, f.h[s].top):
        ack = f.h[s].top        # what it has not shown itself is not missed yet
    if st.grace_due or not seq_gt(ack, f.h[s].nxt):
        return
    if f.h[s].flags & HALF_FIN and ack == f.fin[s] + 1 and f.h[s].nxt == f.fin[s]:
        return
    st.grace_due = cs.now + grace
    st.grace_ack = ack
    flow_arm(cs, f, st.grace_due)


cdef void delivery_settle(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if seq_ge(f.h[s].nxt, st.grace_ack):
        st.grace_due = 0
        watch_next_hole(cs, f, s)


cdef void delivery_watch(CoreState *cs, Flow *f, int s, uint32_t unseen) noexcept nogil:
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
    delivery_watch(cs, f, s, unseen)


cdef bint delivery_make_gap(CoreState *cs, Flow *f, int s, uint32_t upto,
                            uint32_t cause) noexcept nogil:
    cdef Half *snd = &f.h[s]
    if snd.flags & HALF_FIN and not f.stream[s].fins:
        upto = up_to_noted(f, s, upto)
    if snd.flags & HALF_FIN_DONE or not seq_gt(upto, snd.nxt):
        return False
    delivery_give_up(cs, f, s, upto - snd.nxt, cause)
    delivery_advance(snd, upto - snd.nxt)
    claimed(f, s)
    if f.stream[s].policy & DELIVER_ACKED:
        f.stream[s].ready = asm_run(f.stream[s], snd.nxt)
    delivery_drain(cs, f, s, delivery_due(f, s))
    flow_tell(cs, f, s)
    return True


cdef uint32_t up_to_noted(const Flow *f, int s, uint32_t upto) noexcept nogil:
    """A FIN for which the store had no memory ends the hole, unless its receiver went on."""
    cdef const Half *rcv = &f.h[1 - s]
    if not seq_gt(upto, f.fin[s]) or seq_gt(f.h[s].nxt, f.fin[s]):
        return upto
    return upto if rcv.flags & HALF_ACKING and seq_gt(rcv.ack, f.fin[s] + 1) else f.fin[s]


cdef inline uint32_t hole_end(const Stream *st, uint32_t limit) noexcept nogil:
    """Where the hole in front ends: at the first early byte, at the limit otherwise."""
    if st.n_pieces and seq_lt(asm_first(st), limit):
        return asm_first(st)
    return limit


cdef void give_up_to(CoreState *cs, Flow *f, int s, uint32_t limit, uint32_t cause) noexcept nogil:
    """Everything before the limit: handed out if it is here, a gap if not."""
    cdef bint acked = f.stream[s].policy & DELIVER_ACKED, more = True
    while more:
        delivery_drain(cs, f, s, limit if acked else delivery_all(f, s))
        more = (not before_fin(f, s, cause)
                and delivery_make_gap(cs, f, s, hole_end(f.stream[s], limit), cause))


cdef inline bint before_fin(const Flow *f, int s, uint32_t cause) noexcept nogil:
    """Of a hole behind which nothing but a FIN is known, only an acknowledgement tells."""
    return cause == GAP_LOST and asm_fin_first(f.stream[s])


cdef void delivery_hole_due(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if st == NULL or st.grace_due == 0 or st.grace_due > cs.now:
        return
    st.grace_due = 0
    give_up_to(cs, f, s, st.grace_ack,
               GAP_ACKED_UNSEEN if f.h[1 - s].flags & HALF_SEEN else GAP_LOST)
    flow_tell(cs, f, s)
    if not st.grace_due:
        watch_next_hole(cs, f, s)


cdef void delivery_flush(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Stream *st = f.stream[s]
    if st == NULL:
        return
    st.grace_due = 0
    if not f.flags & FLOW_ESTABLISHED:
        asm_truncate(st, f.h[s].nxt)     # data on a SYN that nobody acknowledged
    if st.n_pieces and asm_first(st) == f.h[s].nxt and not st.policy & DELIVER_ACKED:
        if not seq_gt(f.h[1 - s].ack, f.h[s].nxt):
            asm_truncate(st, f.h[s].nxt)     # the probe of a closed window, not taken
    if f.h[1 - s].flags & HALF_ACKING:
        give_up_to(cs, f, s, f.h[1 - s].ack, GAP_ACKED_UNSEEN)
    if st.n_pieces:
        give_up_to(cs, f, s, asm_end(st), GAP_LOST)
    delivery_fin(cs, f, s)


# ---- end of stream -----------------------------------------------------------------------

cdef void delivery_fin(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef const Half *snd = &f.h[s]
    cdef Stream *st = f.stream[s]
    if not snd.flags & HALF_FIN or snd.flags & HALF_FIN_DONE:
        return
    if st == NULL or not st.fins:
        meet_noted(cs, f, s)
    elif asm_fin_first(st) and asm_first(st) == snd.nxt:
        if not went_on(f, s):
            delivery_end(cs, f, s)
            return
        asm_drop_first(st)           # somebody else's FIN, at a byte that the tap missed
        start_grace(cs, f, s, f.h[1 - s].ack, cs.config.reorder_grace_ns)
        if not st.fins:
            forget_fin(f, s)


cdef void meet_noted(CoreState *cs, Flow *f, int s) noexcept nogil:
    """One that is not in the store: nobody reads this side, memory was refused, or bytes have
    taken its place."""
    cdef const Stream *st = f.stream[s]
    cdef uint32_t nxt = f.h[s].nxt
    if seq_gt(nxt, f.fin[s]):
        forget_fin(f, s)
    elif nxt == f.fin[s] and not (st != NULL and st.n_pieces and asm_first(st) == nxt):
        delivery_end(cs, f, s)


cdef inline bint went_on(const Flow *f, int s) noexcept nogil:
    """The receiver has acknowledged more than the FIN that is next: it did not take it for one."""
    return f.h[1 - s].flags & HALF_ACKING and seq_gt(f.h[1 - s].ack, f.h[s].nxt + 1)


cdef void forget_fin(Flow *f, int s) noexcept nogil:
    f.h[s].flags &= ~<uint16_t>HALF_FIN
    flow_reopen(f)


cdef void delivery_end(CoreState *cs, Flow *f, int s) noexcept nogil:
    cdef Half *snd = &f.h[s]
    cdef Half *rcv = &f.h[1 - s]
    snd.flags |= HALF_FIN | HALF_FIN_DONE
    f.fin[s] = snd.nxt
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
