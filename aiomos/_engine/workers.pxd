"""Who shares the traffic with this core, and how a frame gets to another one."""
from libc.stdint cimport uint8_t, uint32_t

from aiomos._engine.defrag cimport Defrag
from aiomos._engine.rss cimport RSS_TABLE
from aiomos._engine.shim cimport aio_frame

# Gives a copy of a frame to another worker; 0: taken, less: lost (its ring is full).
ctypedef int (*hand_fn)(void *context, uint32_t worker, const aio_frame *frame) noexcept nogil
# Lets the others see what was given, once a burst.
ctypedef void (*hand_end_fn)(void *context) noexcept nogil

cdef struct Workers:
    uint32_t count
    uint32_t mine             # this worker's number
    hand_fn hand_over         # NULL: all workers see every frame
    hand_end_fn burst_over
    void *context
    Defrag others             # fragments that other workers count
    uint8_t owners[RSS_TABLE]   # worker by hash
    uint8_t places[2][256]      # what the low, the high byte of a folded word adds to it
