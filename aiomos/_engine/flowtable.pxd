"""All flows of a core: a slab of entries that never move, and an open-addressing index.

The slab is reserved address space that the system fills as it is touched; entries keep
their address for life, so others hold plain pointers. The index holds (hash, number)
pairs with linear probing and no tombstones; it doubles when half full, which is the only
time that a flow's birth asks the system for memory.
"""
from libc.stdint cimport uint32_t, uint64_t, uint8_t

from aiomos._engine.flow cimport LISTS, Flow
from aiomos._engine.flowkey cimport KeySeed
from aiomos._engine.intrinsics cimport aio_fetch
from aiomos._engine.wire cimport Packet

cdef struct FlowSlot:
    uint32_t hash
    uint32_t index            # 0 = empty

cdef enum:
    LISTED_SHIFT = 30         # Flow.listed counts units of 2**30 ns, about a second

cdef struct FlowList:
    uint32_t first            # 0: empty
    uint32_t last
    uint32_t count

# An entry, and whose it was when it was noted.
cdef struct FlowName:
    uint64_t id
    uint32_t index

cdef struct FlowTable:
    FlowSlot *slots
    uint32_t mask             # number of slots - 1
    uint32_t linked           # flows in the index
    uint32_t live             # entries in use, those unlinked but still viewed included
    uint32_t high             # entries ever touched
    uint32_t capacity         # most flows
    uint32_t free_head        # list of entries to use again
    Flow *flows               # the slab
    uint64_t refused          # births refused: no entry left
    FlowList lists[LISTS]     # by Flow.list
    KeySeed seed

# capacity: entries, those that wait for their last view included; who adds keeps to its own cap.
cdef int table_init(FlowTable *t, uint32_t capacity, const uint8_t *seed) noexcept nogil
cdef void table_free(FlowTable *t) noexcept nogil
# The flow of a keyed packet, or NULL.
cdef Flow *table_find(FlowTable *t, const Packet *p) noexcept nogil
# A zeroed entry linked under the packet's key; NULL when the table is full.
cdef Flow *table_add(FlowTable *t, const Packet *p) noexcept nogil
# Takes a flow out of the index; its entry stays until table_release().
cdef void table_unlink(FlowTable *t, Flow *f) noexcept nogil
# Moves a flow to the end of one of the lists, or (LIST_NONE) takes it off the one it is on.
cdef void table_list(FlowTable *t, Flow *f, uint8_t which) noexcept nogil
cdef void table_release(FlowTable *t, Flow *f) noexcept nogil

# The linked entries in order of their flows' birth, to be freed by the caller, and their number;
# NULL: no memory. Order in the slab tells when entries were given back, which is no order at all.
cdef FlowName *table_by_birth(const FlowTable *t, uint32_t *n) noexcept nogil

# The flow of a list that is to go first; NULL: the list is empty.
cdef inline Flow *table_first(FlowTable *t, int which) noexcept nogil:
    cdef uint32_t i = t.lists[which].first
    return &t.flows[i] if i else NULL

# What hides the memory latency of a burst: first fetch the slots of all its packets, valid
# addresses whatever is there ...
cdef inline void table_fetch_slot(const FlowTable *t, uint32_t hash) noexcept nogil:
    aio_fetch(&t.slots[hash & t.mask])

# ... then what every packet touches of the entries that they name. One in five stands behind its
# home slot. At 100 000 flows the steps to those, and loads for prefetches, saved 75 of 160 ns a
# packet.
cdef inline void table_fetch_flow(const FlowTable *t, uint32_t hash) noexcept nogil:
    cdef uint32_t i = hash & t.mask
    while t.slots[i].index and t.slots[i].hash != hash:
        i = (i + 1) & t.mask
    if t.slots[i].index:
        aio_fetch(&t.flows[t.slots[i].index])
        aio_fetch(<const char *>&t.flows[t.slots[i].index] + 64)
