"""Bursts in, coroutines stepped; see pump.pxd for the order."""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free

import heapq
from time import sleep

from aiomos._engine.clock cimport clock_needs_next, clock_step
from aiomos._engine.errors import FlowError, GapError
from aiomos._engine.flow cimport FLOW_CLOSED
from aiomos._engine.intrinsics cimport ctz64, likely, unlikely
from aiomos._engine.life cimport flow_unviewed
from aiomos._engine.limits cimport CLIENT, CLOSE_CAPTURE_END, PROTO_UDP, SERVER
from aiomos._engine.packet cimport PacketBase, packet_borrow, packet_copy, packet_end
from aiomos._engine.probe cimport match_flow
from aiomos._engine.shim cimport AIO_CAP_RING, AIO_NO_TIME
from aiomos._engine.state cimport (C_SLOW_READER, C_UNREAD_SIDE, HOOK_PACKET, RECORD_CLOSE,
                                   RECORD_DATAGRAM, RECORD_SIDE, RECORD_START, records_full)
from aiomos._engine.stream cimport (STREAM_UNREAD, Cursor, Stream, cursor_catch_up, stream_cut,
                                    stream_end)
from aiomos._engine.task cimport FlowTask, flow_task_new
from aiomos._engine.taskface cimport TASK_RETURNED
from aiomos._engine.view cimport (ON_FULL_DETACH, ON_FULL_STOP, EndpointBase, FlowBase, Handler,
                                  flow_view_new)
from aiomos._engine.wire cimport Packet

cdef Py_ssize_t NO_BUDGET = <Py_ssize_t>0x3FFFFFFFFFFFFFFF
EMPTY_NAP = 0.001     # seconds, when a replay's source has nothing now
cdef enum:
    CYCLES_BETWEEN_SIGNALS = 64


cdef class Pump:
    """Moves frames from a source through the engine, and steps what became runnable.

    ``handlers`` are Handler objects by bit, ``filters`` the FilterSet that gives those bits.
    ``spawn(coroutine, flow)`` makes ordinary tasks instead of flow tasks (--tasks asyncio).
    """

    def __cinit__(self):
        self.now_batch = <Batch *>calloc(1, sizeof(Batch))
        self.next_batch = <Batch *>calloc(1, sizeof(Batch))
        if self.now_batch == NULL or self.next_batch == NULL:
            raise MemoryError

    def __init__(self, Core core not None, Source source not None, TaskQueue queue not None, *,
                 handlers, FilterSet filters, flow_class, endpoint_class,
                 FrameFilter frame_filter=None, Writer writer=None, spawn=None,
                 on_failure=None, packet_handlers=(), burst=AIO_BURST_MAX, stop_after=0,
                 budget=None):
        self.core = core
        self.source = source
        self.queue = queue
        self.loop = queue.loop
        self.handlers = list(handlers)
        self.filters = filters
        self.flow_class = flow_class
        self.endpoint_class = endpoint_class
        self.frame_filter = frame_filter
        self.writer = writer
        self.spawn = spawn
        self.on_done = self.handler_done
        self.on_failure = on_failure
        self.full_sides = []
        self.fresh_packets = []
        self.timers = []
        self.burst_size = max(1, min(burst, AIO_BURST_MAX))
        self.stop_after = stop_after
        self.budget = NO_BUDGET if budget is None else budget
        self.packet_hooks = list(packet_handlers)
        self.wire_core()

    def __dealloc__(self):
        free(self.now_batch)
        free(self.next_batch)

    def wire_core(self):
        """Tells the core who is interested in what."""
        cdef Handler handler
        cdef uint64_t bit
        cdef int i
        cs = self.core.state
        for i, handler in enumerate(self.handlers):
            bit = <uint64_t>1 << i
            cs.start_masks[handler.start] |= bit
            if handler.sides & 1:
                cs.sides_masks[CLIENT] |= bit
            if handler.sides & 2:
                cs.sides_masks[SERVER] |= bit
        if self.handlers:
            cs.match_context = <void *>self.filters
            cs.match = match_flow
        if self.packet_hooks:
            cs.hook_contexts[HOOK_PACKET] = <void *>self
            cs.hooks[HOOK_PACKET] = packet_trampoline
        self.core.keep = self.filters

    def detach(self):
        """Takes the hooks out of the core: nothing calls back after this."""
        self.core.state.hooks[HOOK_PACKET] = NULL
        self.core.state.match = NULL

    # ---- one cycle -----------------------------------------------------------------------

    cdef int cycle(self, int64_t due_ns) except -1:
        """One burst of frames before due_ns, and everything that follows from it."""
        cdef int result
        self.queue.pumping = True
        try:
            if self.full_sides:
                self.judge_full_sides()
            result = self.fill()
            if result == CYCLE_END or result == CYCLE_EMPTY:
                return result
            if self.time_of_head() >= due_ns:
                self.idle_to(due_ns)
                return CYCLE_DUE
            self.take_frames(due_ns)
            self.settle()
            return CYCLE_WORKED
        finally:
            self.queue.pumping = False

    cdef int settle(self) except -1:
        """After frames or timers: records to views, frames back, tasks stepped."""
        self.consume_records()
        self.release()
        if self.fresh_packets:
            self.start_packet_tasks()
        if self.leaving is not None:
            error, self.leaving = self.leaving, None
            raise error
        if self.queue.runnable() and self.queue.run(self.budget) >= self.budget:
            self.budget_spent += 1
        return 0

    cdef int fill(self) except -1:
        """Sees to it that now_batch has a frame."""
        cdef Batch *batch
        cdef int n
        if likely(self.head < self.now_batch.count):
            return CYCLE_WORKED
        if self.ended and self.next_batch.count == 0:
            return CYCLE_END
        batch = self.now_batch
        self.head = 0
        self.released = 0
        batch.count = 0
        if self.next_batch.count:
            self.now_batch = self.next_batch
            self.next_batch = batch
        else:
            n = self.read_batch(batch)
            if n <= 0:
                return CYCLE_END if self.ended else CYCLE_EMPTY
        self.core.prepare(self.now_batch.frames, self.now_batch.count)
        return CYCLE_WORKED

    cdef int read_batch(self, Batch *batch) except -2:
        """Frames that passed the filter into an empty batch; their number, 0: none now."""
        cdef int n
        while not self.ended:
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

    cdef int64_t time_of_head(self) except? -1:
        """Engine time of the next frame; its stamp is judged once."""
        cdef int64_t stamp, following
        cdef Clock *clock = &self.core.state.clock
        if self.head_timed:
            return self.head_ns
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
            self.core.prepare(self.now_batch.frames, 1)
        return self.read_batch(self.next_batch)

    cdef bint take_frames(self, int64_t due_ns) except -1:
        """Up to the end of the batch, the due time, a full reader or a full record buffer."""
        cdef Core core = self.core
        cdef int64_t now
        while self.head < self.now_batch.count:
            now = self.time_of_head()
            if now >= due_ns or records_full(core.state):
                return False
            if unlikely(core.state.wheel.next_ns <= now) and not core.advance(now):
                return False
            core.take(self.head, now)
            self.head += 1
            self.head_timed = False
            if unlikely(core.state.full):
                return False
        return True

    cdef int idle_to(self, int64_t due_ns) except -1:
        """No frame before due_ns: the clock goes there by itself, engine timers on the way."""
        while not self.core.advance(due_ns):
            self.settle()
        self.settle()
        self.fire_timers()
        return 0

    cdef void release(self) noexcept:
        """Gives the frames taken so far back to the source."""
        cdef aio_source *src = self.source.src
        if self.head > self.released and src != NULL:
            src.ops.release(src, &self.now_batch.frames[self.released], self.head - self.released)
            self.released = self.head

    # ---- records -------------------------------------------------------------------------

    cdef int consume_records(self) except -1:
        cdef uint32_t i
        for i in range(self.core.state.n_records):
            self.consume(&self.core.state.records[i])
        self.core.end_burst()
        return 0

    cdef int consume(self, Record *r) except -1:
        if r.kind == RECORD_SIDE:
            self.side_changed(r.flow, r.side)
        elif r.kind == RECORD_START:
            self.start_handlers(r)
        elif r.kind == RECORD_CLOSE:
            self.flow_ended(r.flow)
        elif r.kind == RECORD_DATAGRAM:
            self.side_changed(r.flow, CLIENT)
        elif r.flow.views != NULL:
            view = <FlowBase>r.flow.views
            while view is not None:
                view.wake_waiters()
                view = view.next_view
        return 0

    cdef int start_handlers(self, Record *r) except -1:
        cdef uint64_t mask = r.mask
        while mask:
            self.start_handler(r, ctz64(mask))
            mask &= mask - 1
        return 0

    cdef int start_handler(self, Record *r, uint32_t bit) except -1:
        cdef Handler handler = <Handler>self.handlers[bit]
        cdef FlowBase view = flow_view_new(self.flow_class, self.endpoint_class, self.core,
                                           r.flow, self.queue, handler)
        cdef FlowTask task
        handler.started += 1
        if handler.sides & 1:
            view.client.attach(r.position[CLIENT], r.missing[CLIENT])
        if handler.sides & 2:
            view.server.attach(r.position[SERVER], r.missing[SERVER])
        view.link()
        try:
            coroutine = handler.function(view)
        except Exception as error:          # called wrongly: it never began
            self.handler_failed(view, error)
            self.forget_view(view)
            return 0
        if self.spawn is not None:
            view.task = self.spawn(coroutine, view, self.on_done)
            return 0
        task = flow_task_new(coroutine, self.queue, view)
        task.on_done = self.on_done
        view.task = task
        self.queue.push(task)
        return 0

    cdef void side_changed(self, Flow *f, int side) noexcept:
        cdef EndpointBase e
        if f.views == NULL:
            return
        view = <FlowBase>f.views
        while view is not None:
            e = view.client if side == CLIENT else view.server
            if e.changed() and not e.listed:
                e.listed = True
                self.full_sides.append(e)
            view = view.next_view

    cdef int flow_ended(self, Flow *f) except -1:
        cdef FlowBase view, following
        if f.views == NULL:
            flow_unviewed(self.core.state, f)
            return 0
        view = <FlowBase>f.views
        while view is not None:
            following = view.next_view
            view.wake_waiters()
            view.client.changed()
            view.server.changed()
            if view.task is None:           # its handler ended before
                self.forget_view(view)
            view = following
        return 0

    def handler_done(self, task, FlowBase view=None):
        """A handler's task has ended: its failure is reported, its view forgotten."""
        if view is None:
            view = <FlowBase>(<FlowTask>task).flow
            if (<FlowTask>task).state == TASK_RETURNED:
                self.forget_view(view)
                return
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.handler_failed(view, error)
        self.forget_view(view)

    cdef int handler_failed(self, FlowBase view, object error) except -1:
        """An end of the flow that the handler did not expect is no failure of the handler."""
        if isinstance(error, FlowError) and not isinstance(error, GapError):
            self.flow_endings += 1
            return 0
        view.handler.failed += 1
        self.handler_errors += 1
        if self.on_failure is not None:
            self.on_failure(view, error)
        return 0

    cdef int forget_view(self, FlowBase view) except -1:
        """Takes a view out of its flow's chain; the last one takes the bytes with it."""
        cdef Flow *f = view.fl
        cdef FlowBase before
        view.task = None
        view.client.detach()
        view.server.detach()
        if view.waiters is not None and not f.flags & FLOW_CLOSED:
            return 0            # children of the handler wait for the flow: until it ends
        view.linked = False
        if f.views == <void *>view:
            f.views = NULL if view.next_view is None else <void *>view.next_view
        else:
            before = <FlowBase>f.views
            while before.next_view is not view:
                before = before.next_view
            before.next_view = view.next_view
        view.next_view = None
        if f.views == NULL:
            flow_unviewed(self.core.state, f)
        Py_DECREF(view)
        return 0

    # ---- limits --------------------------------------------------------------------------

    cdef int judge_full_sides(self) except -1:
        """Readers had their turn: what they left beyond their limit is cut (semantics.md 5)."""
        sides, self.full_sides = self.full_sides, []
        for side in sides:
            (<EndpointBase>side).listed = False
            self.judge(<EndpointBase>side)
        return 0

    cdef int judge(self, EndpointBase e) except -1:
        cdef Stream *s = e.cursor.stream
        cdef Cursor *c
        cdef uint64_t keep = 0, lost
        if s == NULL or stream_end(s) - e.cursor.position <= max(e.limit, e.want):
            return 0
        if e.fl.protocol == PROTO_UDP:      # a queue of datagrams has its own bound (udp.pxd)
            return 0
        if e.on_full == ON_FULL_STOP or e.on_full == ON_FULL_DETACH:
            e.detach()
            return 0
        c = s.cursors
        while c != NULL:
            keep = max(keep, c.position + c.limit)
            c = c.next
        lost = stream_cut(s, keep)
        if lost == 0:       # others read on: what this one leaves behind is lost for it alone
            self.core.state.counters[C_SLOW_READER] += cursor_catch_up(&e.cursor)
            return 0
        if not e.touched:
            s.flags |= STREAM_UNREAD
            self.core.state.counters[C_UNREAD_SIDE] += 1
        else:
            self.core.state.counters[C_SLOW_READER] += lost
        return 0

    # ---- packets -------------------------------------------------------------------------

    cdef int call_packet_handlers(self, Packet *p) except -1:
        cdef PacketBase packet = None
        for frame_filter, function, wants_copy, cls in self.packet_hooks:
            if frame_filter is not None and not (<FrameFilter>frame_filter).match(p.frame):
                continue
            try:
                if wants_copy:
                    self.fresh_packets.append(function(packet_copy(cls, p)))
                    continue
                if packet is None:
                    packet = packet_borrow(cls, p)
                function(packet)
            except Exception as error:
                self.handler_errors += 1
                if self.on_failure is not None:
                    self.on_failure(None, error)
            except BaseException as error:  # an exit: after this burst, not in the middle of it
                self.leaving = error
                self.core.state.full = True
        if packet is not None:
            packet_end(packet)
        return 0

    def start_packet_tasks(self):
        """Coroutines of async packet handlers begin after the burst."""
        cdef FlowTask task
        fresh, self.fresh_packets = self.fresh_packets, []
        for coroutine in fresh:
            if self.spawn is not None:
                self.spawn(coroutine, None, self.packet_done)
                continue
            task = flow_task_new(coroutine, self.queue, None)
            task.on_done = self.packet_done
            self.queue.push(task)

    def packet_done(self, task):
        """An async packet handler has ended."""
        if task.cancelled() or task.exception() is None:
            return
        self.handler_errors += 1
        if self.on_failure is not None:
            self.on_failure(None, task.exception())

    # ---- time ----------------------------------------------------------------------------

    def call_at(self, int64_t due_ns, function):
        """Calls function at an engine time; returns a handle for cancel_call()."""
        self.timer_number += 1
        entry = [due_ns, self.timer_number, function]
        heapq.heappush(self.timers, entry)
        return entry

    def cancel_call(self, entry):
        """Forgets a call; one that was made already is forgotten anyway."""
        entry[2] = None

    def next_call_ns(self):
        """When the earliest call is due; None: there is none."""
        while self.timers and self.timers[0][2] is None:
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    cdef int fire_timers(self) except -1:
        """Calls that are due, in order of (due time, creation)."""
        while True:
            due = self.next_call_ns()
            if due is None or due > self.core.state.now:
                return 0
            heapq.heappop(self.timers)[2]()
            self.settle()

    # ---- the driver of the replay loop (aiomos/_replay_loop.py) --------------------------

    def now_ns(self):
        """Engine time in ns; before the first frame, that frame's stamp."""
        # Not clock.now: that is the time of the frame in front, judged but not taken yet.
        if self.core.state.now == 0 and self.fill() == CYCLE_WORKED:
            self.core.state.now = self.time_of_head()
        return self.core.state.now

    def set_now(self, int64_t ns):
        """Moves the clock on when no frames are left."""
        self.core.state.now = max(self.core.state.now, ns)

    def foreign_waiters(self):
        """Flow tasks that wait for futures which are not the engine's."""
        return self.queue.foreign_waiters

    def advance(self, limit_ns):
        """Works until the loop has something to do; False: nothing is left to do."""
        cdef Py_ssize_t foreign = self.queue.foreign_waiters
        cdef int result, count = 0
        cdef object loop = self.loop
        has_ready = loop.has_ready
        while True:
            result = self.cycle(self.earliest(loop.next_due_ns()))
            if result == CYCLE_END:
                return self.at_end() or count > 0
            if result == CYCLE_EMPTY:       # a signal may have ended the wait for a pipe
                sleep(EMPTY_NAP)
                loop.should_yield()
                return True
            count += 1
            if result != CYCLE_WORKED or has_ready() or self.queue.foreign_waiters != foreign:
                return True
            if count % CYCLES_BETWEEN_SIGNALS == 0:
                PyErr_CheckSignals()
                if loop.should_yield():
                    return True

    cdef bint at_end(self) except -1:
        """No frames are left: flows close, once; then those still runnable go on."""
        if not self.closed:
            self.finish(CLOSE_CAPTURE_END)
            return True
        if not self.queue.runnable():
            return False
        self.step_tasks()
        return True

    def earliest(self, limit_ns):
        """The earlier of the loop's next timer and the pump's own."""
        own = self.next_call_ns()
        if limit_ns is None:
            return INT64_MAX if own is None else own
        return limit_ns if own is None else min(own, limit_ns)

    # ---- any other loop ------------------------------------------------------------------

    def turn(self):
        """One cycle for a loop that is not ours; the CYCLE_* that it came to."""
        cdef int result = self.cycle(self.earliest(None))
        if result == CYCLE_END and self.at_end():
            return CYCLE_WORKED
        return result

    def step_tasks(self):
        """Steps what has become runnable outside of a cycle."""
        self.queue.pumping = True
        try:
            self.settle()
        finally:
            self.queue.pumping = False

    # ---- the end -------------------------------------------------------------------------

    cdef int finish(self, uint8_t reason) except -1:
        """Open flows close; their handlers see it."""
        cdef bint done = False
        if self.closed:
            return 0
        self.closed = True
        self.ended = True
        self.queue.pumping = True
        try:
            while not done:
                done = self.core.close_flows(reason)
                self.settle()
        finally:
            self.queue.pumping = False
        return 0

    def close_flows(self, int reason):
        """Ends all open flows with a CloseReason by number, and takes no further frame."""
        self.drop_frames()
        self.finish(<uint8_t>reason)

    def drop_frames(self):
        """Gives back frames that were read and will not be processed."""
        self.release()
        self.head = self.now_batch.count
        self.head_timed = False
        self.release()
        if self.next_batch.count and self.source.src != NULL:
            self.source.src.ops.release(self.source.src, self.next_batch.frames,
                                        self.next_batch.count)
        self.next_batch.count = 0
        self.ended = True

    @property
    def is_closed(self):
        """Whether the open flows were closed: nothing more will come."""
        return self.closed


cdef int packet_trampoline(void *context, Flow *flow, Packet *packet, int event) noexcept with gil:
    """Packet handlers, in place. The worker holds the GIL through a burst."""
    (<Pump>context).call_packet_handlers(packet)
    return 0
