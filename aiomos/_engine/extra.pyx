"""Blocks of the flows that need one."""
from libc.string cimport memcpy, memset
from posix.mman cimport (MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ,
                         PROT_WRITE, mmap, munmap)

from aiomos._engine.pool cimport pool_get, pool_put
from aiomos._engine.wire cimport Tunnel


cdef inline size_t index_size(uint32_t capacity) noexcept nogil:
    return (<size_t>capacity + 1) * sizeof(void *)


cdef int extra_init(Extras *x, uint32_t capacity) noexcept nogil:
    """0, or -1 when address space is refused."""
    cdef void *index = mmap(NULL, index_size(capacity), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if index == MAP_FAILED:
        return -1
    x.of = <Extra **>index
    x.capacity = capacity
    return 0


cdef void extra_free(Extras *x) noexcept nogil:
    """Blocks have been dropped before."""
    if x.of != NULL:
        munmap(x.of, index_size(x.capacity))
    x.of = NULL


cdef Extra *extra_need(Extras *x, Pool *pool, Flow *f, uint32_t n_tunnels) noexcept nogil:
    cdef Extra *e
    cdef uint32_t size = 0
    if f.flags & FLOW_EXTRA:
        return x.of[f.index]
    e = <Extra *>pool_get(pool, sizeof(Extra) - (MAX_TUNNELS - n_tunnels) * sizeof(TunnelNote),
                          &size)
    if e == NULL:
        return NULL
    memset(e, 0, min(<size_t>size, sizeof(Extra)))
    e.size = size
    e.n_tunnels = n_tunnels
    x.of[f.index] = e
    f.flags |= FLOW_EXTRA
    return e


cdef bint extra_tunnels(Extras *x, Pool *pool, Flow *f, const Packet *p) noexcept nogil:
    cdef Extra *e = extra_need(x, pool, f, p.n_tunnels)
    cdef uint32_t i
    if e == NULL:
        return False
    for i in range(e.n_tunnels):
        note(&e.tunnel[i], &p.tunnel[i])
    return True


cdef void note(TunnelNote *n, const Tunnel *t) noexcept nogil:
    n.id = t.id
    n.kind = t.kind
    n.has_id = t.has_id
    if t.ip == NULL:
        return
    n.ip_version = t.ip_version
    if t.ip_version == 4:
        memcpy(n.source, t.ip + 12, 4)
        memcpy(n.destination, t.ip + 16, 4)
    else:
        memcpy(n.source, t.ip + 8, 16)
        memcpy(n.destination, t.ip + 24, 16)


cdef void extra_drop(Extras *x, Pool *pool, Flow *f) noexcept nogil:
    cdef Extra *e
    if f.flags & FLOW_EXTRA:
        e = x.of[f.index]
        f.flags &= ~<uint32_t>FLOW_EXTRA
        x.of[f.index] = NULL
        pool_put(pool, e, e.size)
