"""Whose packet is it?"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos._engine.icmp cimport Quote, icmp_quoted
from aiomos._engine.intrinsics cimport likely
from aiomos._engine.rss cimport RSS_TABLE, rss_fold, rss_fold_addresses, rss_hash
from aiomos._engine.shim cimport AIO_DIR_REJOINED, aio_frame
from aiomos._engine.state cimport C_OTHERS, C_REJOINED, C_WRONG_CORE, C_WRONG_CORE_LOST
from aiomos._engine.wire cimport WIRE_FRAGMENT, WIRE_OTHER, WIRE_UDP


cdef void share_init(Workers *workers, uint32_t mine, uint32_t count) noexcept nogil:
    cdef uint32_t i
    workers.mine = mine
    workers.count = count
    for i in range(RSS_TABLE):
        workers.owners[i] = <uint8_t>(i % count)
    for i in range(256):
        workers.places[0][i] = <uint8_t>(rss_hash(<uint16_t>i) % RSS_TABLE)
        workers.places[1][i] = <uint8_t>(rss_hash(<uint16_t>(i << 8)) % RSS_TABLE)


cdef uint32_t share_owner(const Workers *workers, const Packet *p) noexcept nogil:
    cdef Packet quoted
    cdef Quote q
    if likely(p.status <= WIRE_UDP):
        return share_of_word(workers, rss_fold(p))
    if p.status == WIRE_OTHER and icmp_quoted(p, &q, &quoted):
        return share_of_word(workers, rss_fold(&quoted))
    if p.status <= WIRE_FRAGMENT:
        return share_of_word(workers, rss_fold_addresses(p))
    return 0


cdef bint share_admits(CoreState *cs, const Packet *p) noexcept nogil:
    cdef const Workers *workers = cs.workers
    cdef uint32_t owner = share_owner(workers, p)
    if owner == workers.mine:
        return True
    if workers.hand_over == NULL:
        cs.counters[C_OTHERS] += 1
        return False
    cs.counters[C_WRONG_CORE] += 1
    hand_over(cs, owner, p.frame)
    return False


cdef bint share_keeps(CoreState *cs, const Packet *p) noexcept nogil:
    cdef const Workers *workers = cs.workers
    cdef uint32_t owner = share_owner(workers, p)
    if owner == workers.mine:
        return True
    if workers.hand_over != NULL:         # else its owner has put it together too
        cs.counters[C_REJOINED] += 1
        cs.rebuilt.direction |= AIO_DIR_REJOINED
        hand_over(cs, owner, p.frame)
    return False


cdef void hand_over(CoreState *cs, uint32_t owner, const aio_frame *frame) noexcept nogil:
    if cs.workers.hand_over(cs.workers.context, owner, frame) < 0:
        cs.counters[C_WRONG_CORE_LOST] += 1
