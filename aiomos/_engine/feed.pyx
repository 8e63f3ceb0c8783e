"""Frames of a source, in order; see feed.pxd."""
from libc.stdlib cimport calloc, free

from aiomos._engine.clock cimport Clock, clock_forward, clock_needs_next, clock_step
from aiomos._engine.intrinsics cimport likely, unlikely
from aiomos._engine.shim cimport AIO_CAP_LIVE, AIO_CAP_RING, AIO_NO_TIME, aio_source
from aiomos._engine.state cimport C_OTHERS

cdef enum:
    AHEAD = 16                # frames prepared at once: with their flows they fit into 32 KiB
    MOST_LOOKS = 16           # bursts of a live source without a frame that passes the filter


cdef class Feed:
    """Batches of at most ``burst`` frames, up to ``stop_after`` in all (0: no end)."""

    def __cinit__(self):
        self.now_batch = <Batch *>calloc(1, sizeof(Batch))
        self.next_batch = <Batch *>calloc(1, sizeof(Batch))
        if self.now_batch == NULL or self.next_batch == NULL:
            raise MemoryError

    def __init__(self, Core core not None, Source source not None, *,
                 FrameFilter frame_filter=None, Writer writer=None, burst=AIO_BURST_MAX,
                 stop_after=0):
        self.core = core
        self.clock = &core.state.clock
        self.source = source
        self.frame_filter = frame_filter
        self.writer = writer
        self.burst_size = max(1, min(burst, AIO_BURST_MAX))
        self.stop_after = stop_after

    def __dealloc__(self):
        free(self.now_batch)
        free(self.next_batch)

    cdef bint fill(self) except -1:
        cdef Batch *batch
        if likely(self.head < self.now_batch.count):
            return True
        if self.ended and self.next_batch.count == 0:
            return False
        batch = self.now_batch
        self.head = 0
        self.released = 0
        batch.count = 0
        if self.next_batch.count:
            self.now_batch = self.next_batch
            self.next_batch = batch
        elif self.read_batch(batch) <= 0:
            return False
        self.prepared = 0
        return True

    cdef int read_batch(self, Batch *batch) except -2:
        """Frames that passed the filter into an empty batch; their number, 0: none now.

        Live, what nobody wants must not keep the loop from its turn.
        """
        cdef aio_source *src = self.source.src
        cdef int n, looks = 0
        while not self.ended and looks < MOST_LOOKS:
            looks += 1
            n = self.source.burst(batch.frames, self.burst_size)
            if n < 0:
                self.ended = True
                break
            if n == 0:
                break
            batch.count = n
            if self.frame_filter is not None or self.stop_after or self.writer is not None:
                self.keep_wanted(batch)
            else:
                self.received += n
            if batch.count:
                return batch.count
            if not src.caps & AIO_CAP_LIVE:
                looks = 0
        return 0

    cdef void keep_wanted(self, Batch *batch) noexcept:
        """Applies -f, -c and -w: those not wanted go back at once."""
        cdef uint32_t i, kept = 0
        cdef aio_source *src = self.source.src
        for i in range(batch.count):
            if self.ended or (self.frame_filter is not None
                              and not self.frame_filter.match(&batch.frames[i])):
                self.filtered += not self.ended
                src.ops.release(src, &batch.frames[i], 1)
                continue
            self.received += 1
            if self.writer is not None and self.writer.write_frame(&batch.frames[i]) < 0:
                self.ended = True           # said when the writer is closed
            if kept != i:
                batch.frames[kept] = batch.frames[i]
            kept += 1
            if self.received == self.stop_after:
                self.ended = True
        batch.count = kept

    cdef int64_t judge_head(self) except? -1:
        """A stamp that is not a little after the one before it."""
        cdef int64_t stamp, following
        cdef Clock *clock = self.clock
        stamp = self.now_batch.frames[self.head].time_ns
        if stamp == AIO_NO_TIME:            # a record without a stamp: time stands still
            stamp = clock.last_stamp
        following = stamp
        if unlikely(clock_needs_next(clock, stamp)):
            if self.head + 1 < self.now_batch.count:
                following = self.now_batch.frames[self.head + 1].time_ns
            elif self.next_batch.count or self.read_ahead() > 0:
                following = self.next_batch.frames[0].time_ns
            if following == AIO_NO_TIME:
                following = stamp
        self.head_ns = clock_step(clock, stamp, following)
        self.head_timed = True
        return self.head_ns

    cdef void prepare_some(self) noexcept:
        cdef uint32_t end = min(self.prepared + AHEAD, self.now_batch.count)
        self.core.prepare(self.now_batch.frames, self.prepared, end)
        self.prepared = end

    cdef void pass_over(self) noexcept:
        cdef uint32_t first = self.head
        while (self.head + 1 < self.now_batch.count and self.core.is_elsewhere(self.head)
               and (self.head_timed
                    or clock_forward(self.clock, self.now_batch.frames[self.head].time_ns))):
            self.head_timed = False
            self.head += 1
            self.look_ahead()
        self.core.state.counters[C_OTHERS] += self.head - first

    cdef int read_ahead(self) except -2:
        """The batch behind this one, of which the last frame is left. A ring wants all frames
        back before it gives more: then that last one is kept as a copy, alone in its batch."""
        cdef aio_source *src = self.source.src
        cdef aio_frame kept = self.now_batch.frames[self.head]
        if src.caps & AIO_CAP_RING:
            if src.ops.retain(src, &kept) < 0:
                return 0                    # no memory: the stamp is judged by itself
            self.release()
            src.ops.release(src, &self.now_batch.frames[self.head], 1)
            self.now_batch.frames[0] = kept
            self.now_batch.count = 1
            self.head = 0
            self.released = 0
            self.prepared = 0
            self.prepare_some()
        return self.read_batch(self.next_batch)

    cdef void release(self) noexcept:
        cdef aio_source *src = self.source.src
        if self.head > self.released and src != NULL:
            src.ops.release(src, &self.now_batch.frames[self.released], self.head - self.released)
            self.released = self.head

    cdef void drop(self) noexcept:
        self.release()
        self.head = self.now_batch.count
        self.head_timed = False
        self.release()
        if self.next_batch.count and self.source.src != NULL:
            self.source.src.ops.release(self.source.src, self.next_batch.frames,
                                        self.next_batch.count)
        self.next_batch.count = 0
        self.ended = True
