"""Find, add, unlink, release."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset
cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)
    enum:
        MADV_HUGEPAGE

from posix.mman cimport (MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ,
                         PROT_WRITE, mmap, munmap)

from aiomos._engine.flow cimport FLOW_CLIENT_LOW, FLOW_UNLINKED, LIST_NONE
from aiomos._engine.flowkey cimport key_hash
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.wire cimport packet_dst, packet_src

cdef enum:
    FIRST_SLOTS = 1 << 12


cdef int table_init(FlowTable *t, uint32_t capacity, const uint8_t *seed) noexcept nogil:
    """0, or -1 when address space or memory is refused."""
    cdef void *slab
    memset(t, 0, sizeof(FlowTable))
    memcpy(&t.seed, seed, sizeof(KeySeed))
    t.capacity = capacity
    slab = mmap(NULL, (<size_t>capacity + 1) * sizeof(Flow), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if slab == MAP_FAILED:
        return -1
    t.flows = <Flow *>slab
    madvise(slab, (<size_t>capacity + 1) * sizeof(Flow), MADV_HUGEPAGE)  # advice: may fail
    t.slots = <FlowSlot *>calloc(FIRST_SLOTS, sizeof(FlowSlot))
    if t.slots == NULL:
        munmap(slab, (<size_t>capacity + 1) * sizeof(Flow))
        t.flows = NULL
        return -1
    t.mask = FIRST_SLOTS - 1
    return 0


cdef void table_free(FlowTable *t) noexcept nogil:
    if t.flows != NULL:
        munmap(t.flows, (<size_t>t.capacity + 1) * sizeof(Flow))
    free(t.slots)
    memset(t, 0, sizeof(FlowTable))


cdef inline bint same_addresses(const Flow *f, const Packet *p) noexcept nogil:
    """IPv6 keys are digests: equal ones are believed only if the addresses are equal too."""
    cdef int low = 0 if f.flags & FLOW_CLIENT_LOW else 1
    cdef int src = low if p.from_low else 1 - low
    return (memcmp(f.address[src], packet_src(p), 16) == 0
            and memcmp(f.address[1 - src], packet_dst(p), 16) == 0
            and f.ports[src] == p.sport and f.ports[1 - src] == p.dport)


cdef Flow *table_find(FlowTable *t, const Packet *p) noexcept nogil:
    cdef uint32_t i = p.hash & t.mask
    cdef Flow *f
    while t.slots[i].index:
        if t.slots[i].hash == p.hash:
            f = &t.flows[t.slots[i].index]
            if likely(f.k0 == p.k0 and f.k1 == p.k1):
                if likely(p.ip_version == 4) or same_addresses(f, p):
                    return f
        i = (i + 1) & t.mask
    return NULL


cdef inline void put_slot(FlowTable *t, uint32_t hash, uint32_t index) noexcept nogil:
    cdef uint32_t i = hash & t.mask
    while t.slots[i].index:
        i = (i + 1) & t.mask
    t.slots[i].hash = hash
    t.slots[i].index = index


cdef int grow(FlowTable *t) noexcept nogil:
    """Twice the slots; 0, or -1 when memory is refused (the index then fills up further)."""
    cdef FlowSlot *old = t.slots
    cdef uint32_t size = t.mask + 1, i
    cdef FlowSlot *slots = <FlowSlot *>calloc(<size_t>size * 2, sizeof(FlowSlot))
    if slots == NULL:
        return -1
    t.slots = slots
    t.mask = size * 2 - 1
    for i in range(size):
        if old[i].index:
            put_slot(t, old[i].hash, old[i].index)
    free(old)
    return 0


cdef inline uint32_t take_entry(FlowTable *t) noexcept nogil:
    cdef uint32_t index = t.free_head
    if index:
        t.free_head = t.flows[index].timer_next
        return index
    if t.high == t.capacity:
        return 0
    t.high += 1
    return t.high


cdef Flow *table_add(FlowTable *t, const Packet *p) noexcept nogil:
    cdef uint32_t index
    cdef Flow *f
    # Half full at the most; while memory is refused, up to one free slot.
    if unlikely(t.linked * 2 > t.mask) and grow(t) != 0 and t.linked >= t.mask:
        t.refused += 1
        return NULL
    index = take_entry(t)
    if unlikely(index == 0):
        t.refused += 1
        return NULL
    f = &t.flows[index]
    memset(f, 0, sizeof(Flow))
    f.index = index
    f.k0 = p.k0
    f.k1 = p.k1
    put_slot(t, p.hash, index)
    t.linked += 1
    t.live += 1
    return f


cdef void table_unlink(FlowTable *t, Flow *f) noexcept nogil:
    """Empties the slot and moves later ones of the run up, so that no tombstone is needed."""
    cdef uint32_t i = key_hash(f.k0, f.k1, &t.seed) & t.mask, j, home
    if f.flags & FLOW_UNLINKED:
        return
    f.flags |= FLOW_UNLINKED
    table_list(t, f, LIST_NONE)
    while t.slots[i].index != f.index:
        i = (i + 1) & t.mask
    j = i
    while True:
        j = (j + 1) & t.mask
        if t.slots[j].index == 0:
            break
        home = t.slots[j].hash & t.mask
        if ((j - home) & t.mask) >= ((j - i) & t.mask):
            t.slots[i] = t.slots[j]
            i = j
    t.slots[i].index = 0
    t.linked -= 1


cdef void table_release(FlowTable *t, Flow *f) noexcept nogil:
    f.timer_next = t.free_head
    t.free_head = f.index
    t.live -= 1


# ---- lists -------------------------------------------------------------------------------

cdef void unlist(FlowTable *t, Flow *f) noexcept nogil:
    cdef FlowList *l = &t.lists[f.list]
    if f.list_prev:
        t.flows[f.list_prev].list_next = f.list_next
    else:
        l.first = f.list_next
    if f.list_next:
        t.flows[f.list_next].list_prev = f.list_prev
    else:
        l.last = f.list_prev
    l.count -= 1


cdef void table_list(FlowTable *t, Flow *f, uint8_t which) noexcept nogil:
    cdef FlowList *l = &t.lists[which]
    if f.list != LIST_NONE:
        unlist(t, f)
    f.list = which
    if which == LIST_NONE:
        return
    f.listed = <uint32_t>(f.last_ns >> LISTED_SHIFT)
    f.list_next = 0
    f.list_prev = l.last
    if l.last:
        t.flows[l.last].list_next = f.index
    else:
        l.first = f.index
    l.last = f.index
    l.count += 1


cdef int by_birth(const void *a, const void *b) noexcept nogil:
    cdef uint64_t first = (<const FlowName *>a).id, second = (<const FlowName *>b).id
    return (first > second) - (first < second)


cdef FlowName *table_by_birth(const FlowTable *t, uint32_t *n) noexcept nogil:
    cdef FlowName *names = <FlowName *>malloc((<size_t>t.linked + 1) * sizeof(FlowName))
    cdef uint32_t i
    n[0] = 0
    if names == NULL:
        return NULL
    for i in range(1, t.high + 1):
        if t.flows[i].index != 0 and not t.flows[i].flags & FLOW_UNLINKED:
            names[n[0]].id = t.flows[i].id
            names[n[0]].index = i
            n[0] += 1
    qsort(names, n[0], sizeof(FlowName), by_birth)
    return names
