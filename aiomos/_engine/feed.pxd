"""Frames of a source, in order, each with its engine time: what -f, -c and -w leave of them.

A batch is read at once; its frames are decoded a few ahead, taken one by one, and given back at
the end of the burst. The clock may have to see the frame behind the one in front (semantics.md 4).
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiomos._engine.clock cimport Clock, clock_forward
from aiomos._engine.core cimport Core
from aiomos._engine.filters cimport FrameFilter
from aiomos._engine.intrinsics cimport unlikely
from aiomos._engine.shim cimport AIO_BURST_MAX, aio_frame
from aiomos._engine.source cimport Source
from aiomos._engine.writer cimport Writer


cdef struct Batch:
    aio_frame frames[AIO_BURST_MAX]
    uint32_t count


cdef class Feed:
    cdef Core core
    cdef Source source
    cdef Writer writer
    cdef Clock *clock                   # the core's
    cdef FrameFilter frame_filter       # -f EXPR; None: everything
    cdef Batch *now_batch
    cdef Batch *next_batch              # read ahead, when a stamp needs its successor
    cdef uint32_t head                  # first frame of now_batch not taken yet
    cdef uint32_t prepared              # frames of now_batch that the core has prepared
    cdef uint32_t released
    cdef uint32_t burst_size
    cdef int64_t head_ns                # engine time of that frame
    cdef bint head_timed                # head_ns holds
    cdef bint ended                     # the source gave its last frame
    cdef readonly uint64_t received     # frames that passed -f
    cdef readonly uint64_t filtered     # frames that did not
    cdef uint64_t stop_after            # -c N; 0: never

    # Sees to it that now_batch has a frame; 0: none now, or never (ended).
    cdef bint fill(self) except -1
    # Engine time of the frame in front; its stamp is judged once.
    cdef inline int64_t time_of_head(self) except? -1:
        if not self.head_timed and clock_forward(self.clock,
                                                 self.now_batch.frames[self.head].time_ns):
            self.head_ns = self.clock.now
            self.head_timed = True
        return self.head_ns if self.head_timed else self.judge_head()
    # Takes the frame in front.
    cdef inline void take(self, int64_t now) noexcept:
        self.core.take(self.head, now)
        self.head += 1
        self.head_timed = False
    # Before a frame is taken: has the core prepare it, with some behind it.
    cdef inline void look_ahead(self) noexcept:
        if unlikely(self.head == self.prepared):
            self.prepare_some()
    cdef void prepare_some(self) noexcept
    # Passes over the frames of other workers in front, but for the last one of the batch, which
    # brings the time.
    cdef void pass_over(self) noexcept
    # Gives the frames taken so far back to the source.
    cdef void release(self) noexcept
    # Gives back frames that were read and will not be processed.
    cdef void drop(self) noexcept

    cdef int read_batch(self, Batch *batch) except -2
    cdef int64_t judge_head(self) except? -1
    cdef int read_ahead(self) except -2
    cdef void keep_wanted(self, Batch *batch) noexcept
