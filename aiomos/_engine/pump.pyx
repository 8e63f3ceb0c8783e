"""Bursts in, coroutines stepped; see pump.pxd for the order."""
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX

import heapq
from time import sleep, time_ns

from aiomos._engine.clock cimport clock_idle, clock_wall
from aiomos._engine.errors import FlowError, GapError
from aiomos._engine.eventmake cimport EventMaker
from aiomos._engine.flow cimport FLOW_CLOSED, FLOW_END_TOLD, FLOW_EVENTS
from aiomos._engine.intrinsics cimport ctz64, unlikely
from aiomos._engine.life cimport flow_unviewed
from aiomos._engine.limits cimport CLOSE_CAPTURE_END
from aiomos._engine.shim cimport AIO_BURST_MAX
from aiomos._engine.state cimport (RECORD_CLOSE, RECORD_DATAGRAM, RECORD_FLIP, RECORD_SIDE,
                                   RECORD_START, CoreState, records_full)
from aiomos._engine.stream cimport stream_unread
from aiomos._engine.task cimport FlowTask, flow_task_new
from aiomos._engine.taskface cimport TASK_RETURNED
from aiomos._engine.endpoint cimport EndpointBase
from aiomos._engine.flowview cimport FlowBase, flow_view_new
from aiomos._engine.handler cimport Handler

cdef Py_ssize_t NO_BUDGET = <Py_ssize_t>0x3FFFFFFFFFFFFFFF
EMPTY_NAP = 0.001     # seconds, when a replay's source has nothing now
cdef enum:
    CYCLES_BETWEEN_SIGNALS = 64
    CANCELLED_KEPT = 64       # calls that nobody wants any more, before they are cleared away
    SERVER_ONLY = 2           # Handler.sides


cdef class Pump:
    """Moves frames from a source through the engine, and steps what became runnable.

    ``handlers`` are Handler objects, ``filters`` the FilterSet with a filter for each, in order.
    ``spawn(coroutine, flow)`` makes ordinary tasks instead of flow tasks (--tasks asyncio).
    """

    def __init__(self, Core core not None, Source source not None, TaskQueue queue not None, *,
                 handlers, filters, flow_class, endpoint_class,
                 FrameFilter frame_filter=None, Writer writer=None, spawn=None,
                 on_failure=None, packet_handlers=(), packet_class=None, event_rules=(),
                 event_words, burst=AIO_BURST_MAX, stop_after=0, budget=None):
        self.core = core
        self.source = source
        self.queue = queue
        self.loop = queue.loop
        self.roster = Roster(core)
        self.handlers = self.roster.by_bit
        self.flow_class = flow_class
        self.endpoint_class = endpoint_class
        self.spawn = spawn
        self.on_done = self.handler_done
        self.faults = Faults(core, on_failure)
        self.feed = Feed(core, source, frame_filter=frame_filter, writer=writer, burst=burst,
                         stop_after=stop_after)
        self.packets = PacketHooks(core, queue, self.faults, packet_handlers, spawn)
        self.events = EventBridge(
            core, queue, self.faults, EventMaker(*event_words), rules=event_rules, clock=self,
            spawn=spawn, flow_class=flow_class, endpoint_class=endpoint_class,
            packet_class=packet_class)
        self.over_limit = OverLimit(core)
        self.timers = []
        self.live = source.live
        self.on_call = None
        self.due_ns = INT64_MAX
        self.budget = NO_BUDGET if budget is None else budget
        self.roster.take(handlers, filters)

    def replace(self, handlers, filters, *, packet_handlers=(), event_rules=()):
        """New flows are for these handlers; open ones stay those of the earlier (Roster.take)."""
        self.events.take_rules(event_rules)     # first: it may raise
        self.packets.take_rules(packet_handlers)
        self.roster.take(handlers, filters)

    def detach(self):
        """Takes the hooks out of the core: nothing calls back after this."""
        self.packets.detach()
        self.events.detach()
        self.core.state.match = NULL

    # ---- one cycle -----------------------------------------------------------------------

    cdef int cycle(self, int64_t due_ns) except -1:
        """One burst of frames before due_ns, and everything that follows from it."""
        self.queue.pumping = True
        self.queue.steps += 1
        try:
            if self.over_limit.sides:
                self.over_limit.judge_all()
            if not self.feed.fill():
                self.feed.ended |= self.finishing
                self.keep_ledger()
                return CYCLE_END if self.feed.ended else CYCLE_EMPTY
            if self.feed.time_of_head() >= due_ns:
                self.idle_to(due_ns)
                return CYCLE_DUE
            self.due_ns = due_ns
            self.core.relieve()
            self.take_frames()
            self.settle()
            return CYCLE_WORKED
        finally:
            self.queue.pumping = False

    cdef int settle(self) except -1:
        """After frames or timers: records to views, frames back, tasks stepped."""
        self.consume_records()
        self.feed.release()
        self.keep_ledger()                  # before any handler can be what kills
        if self.packets.fresh:
            self.packets.start_tasks()
        self.faults.leave()
        if self.queue.runnable() and self.queue.run(self.budget) >= self.budget:
            self.budget_spent += 1
        return 0

    cdef void keep_ledger(self) noexcept:
        if self.ledger is not None:
            self.ledger.note(self.core.state, self.feed.filtered, self.faults.errors)

    cdef int take_frames(self) except -1:
        """Up to the end of the batch, the due time, a full reader or a full record buffer.

        The due time is read for each frame: a plain function may set a timer on the way.
        """
        cdef Core core = self.core
        cdef Feed feed = self.feed
        cdef int64_t now
        while feed.head < feed.now_batch.count:
            feed.look_ahead()
            if unlikely(core.state.workers != NULL):
                feed.pass_over()
            now = feed.time_of_head()
            if now >= self.due_ns or records_full(core.state):
                break
            if unlikely(core.state.wheel.next_ns <= now) and not core.advance(now):
                break
            feed.take(now)
            if unlikely(core.state.full):
                break
        return 0

    cdef int idle_to(self, int64_t due_ns) except -1:
        """No frame before due_ns: the clock goes there by itself, engine timers on the way."""
        while not self.core.advance(due_ns):
            self.settle()
        self.settle()
        self.fire_timers()
        return 0

    # ---- records -------------------------------------------------------------------------

    cdef int consume_records(self) except -1:
        cdef uint32_t i
        for i in range(self.core.state.n_records):
            self.consume(&self.core.state.records[i])
        self.core.end_burst()
        return 0

    cdef int consume(self, Record *r) except -1:
        self.told |= r.kind == RECORD_START or r.flow.views != NULL
        if r.kind == RECORD_SIDE:
            self.side_changed(r.flow, r.side)
        elif r.kind == RECORD_START:
            self.start_handlers(r)
        elif r.kind == RECORD_CLOSE:
            self.flow_ended(r.flow)
        elif r.kind == RECORD_DATAGRAM:
            self.side_changed(r.flow, 0)
        elif r.kind == RECORD_FLIP:
            self.ends_flipped(r)
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
        if handler.sides >> r.side & 1:     # by the roles that the ends had then
            view.end0.attach(r.position[0], r.missing[0])
        if handler.sides >> (1 - r.side) & 1:
            view.end1.attach(r.position[1], r.missing[1])
        view.link()
        try:
            coroutine = handler.function(view)
        except Exception as error:          # called wrongly: it never began
            self.handler_failed(view, error)
            self.forget_view(view)
            return 0
        handler.open += 1
        if self.spawn is not None:
            view.task = self.spawn(coroutine, view, self.on_done)
            return 0
        task = flow_task_new(coroutine, self.queue, view)
        task.on_done = self.on_done
        view.task = task
        self.queue.push(task)
        return 0

    cdef void ends_flipped(self, const Record *r) noexcept:
        """Readers of one side are given the end that this is now, besides the one they have."""
        cdef FlowBase view = None if r.flow.views == NULL else <FlowBase>r.flow.views
        cdef int side
        while view is not None:
            side = r.side ^ (view.handler.sides == SERVER_ONLY)
            view.read_other(side, r.position[side], r.missing[side])
            view = view.next_view
        for side in range(2):               # who wanted it has ended, or has stopped reading
            if r.flow.stream[side] != NULL:
                stream_unread(r.flow.stream[side])

    cdef void side_changed(self, Flow *f, int side) noexcept:
        cdef EndpointBase e
        if f.views == NULL:
            return
        view = <FlowBase>f.views
        while view is not None:
            e = view.end1 if side else view.end0
            if e.changed() and not e.listed:
                e.listed = True
                self.over_limit.sides.append(e)
            view = view.next_view

    cdef int flow_ended(self, Flow *f) except -1:
        cdef FlowBase view, following
        f.flags |= FLOW_END_TOLD
        if f.flags & FLOW_EVENTS:
            self.events.flow_over(f)
        if f.views == NULL:
            flow_unviewed(self.core.state, f)
            return 0
        view = <FlowBase>f.views
        while view is not None:
            following = view.next_view
            view.wake_waiters()
            view.end0.changed()
            view.end1.changed()
            if view.task is None:           # its handler ended before
                self.forget_view(view)
            view = following
        return 0

    def handler_done(self, task, FlowBase view=None):
        """A handler's task has ended: its failure is reported, its view forgotten."""
        cdef bint returned = False
        if view is None:
            view = <FlowBase>(<FlowTask>task).flow
            returned = (<FlowTask>task).state == TASK_RETURNED
        view.handler.open -= 1
        if returned:
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
        self.faults.failed(view, error, view.handler.function)
        return 0

    cdef int forget_view(self, FlowBase view) except -1:
        """Takes a view out of its flow's chain; the last one takes the bytes with it."""
        cdef Flow *f = view.fl
        cdef FlowBase before
        view.task = None
        view.end0.detach()
        view.end1.detach()
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

    # ---- time ----------------------------------------------------------------------------

    def call_at(self, int64_t due_ns, function):
        """Calls function at an engine time; returns a handle for cancel_call()."""
        self.timer_number += 1
        self.due_ns = min(self.due_ns, due_ns)
        entry = [due_ns, self.timer_number, function]
        heapq.heappush(self.timers, entry)
        if self.on_call is not None and not self.queue.pumping:
            self.on_call()
        return entry

    def cancel_call(self, entry):
        """Forgets a call; one that was made already is forgotten anyway."""
        entry[2] = None
        self.cancelled += 1
        if self.cancelled > CANCELLED_KEPT and 2 * self.cancelled > len(self.timers):
            self.timers = [e for e in self.timers if e[2] is not None]
            heapq.heapify(self.timers)
            self.cancelled = 0

    cdef int64_t next_call_ns(self) except? -1:
        """When the earliest call is due; INT64_MAX: there is none."""
        while self.timers and self.timers[0][2] is None:
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else INT64_MAX

    cdef int fire_timers(self) except -1:
        """Calls that are due, in order of (due time, creation)."""
        cdef int64_t due
        while True:
            due = self.next_call_ns()
            if due == INT64_MAX or due > self.core.state.now:
                return 0
            heapq.heappop(self.timers)[2]()
            self.settle()

    # ---- the driver of the replay loop (aiomos/_replay_loop.py) --------------------------

    def now_ns(self):
        """Engine time in ns; before the first frame, that frame's stamp.

        On a live source what runs between two cycles, woken by something else than traffic, is
        told the machine's time: the engine's stands still until it looks for frames again.
        """
        cdef CoreState *cs = self.core.state
        # Not clock.now: that is the time of the frame in front, judged but not taken yet.
        if cs.now == 0 and self.feed.fill():
            cs.now = self.feed.time_of_head()
        if self.live and not self.queue.pumping:
            return max(cs.now, clock_wall(&cs.clock, time_ns()))
        return cs.now

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

    def fire_next(self, limit_ns):
        """Behind the last frame: goes on to the next call that is due by a time, and makes it.

        False: none is due by then (None: at any time).
        """
        cdef int64_t due = self.next_call_ns()
        if due == INT64_MAX or limit_ns is not None and due > limit_ns:
            return False
        self.set_now(due)
        self.queue.pumping = True
        try:
            self.fire_timers()
        finally:
            self.queue.pumping = False
        return True

    cdef int64_t earliest(self, object limit_ns) except? -1:
        """The earlier of the loop's next timer (None: it has none) and the pump's own."""
        cdef int64_t own = self.next_call_ns()
        return own if limit_ns is None else min(own, <int64_t>limit_ns)

    # ---- any other loop ------------------------------------------------------------------

    def turn(self, limit_ns=None):
        """One cycle, of frames before limit_ns, for a loop that is not ours; its CYCLE_*."""
        return self.turn_before(self.earliest(limit_ns))

    cdef int turn_before(self, int64_t limit_ns) except -1:
        cdef int result = self.cycle(limit_ns)
        if result == CYCLE_END and self.at_end():
            return CYCLE_WORKED
        if result == CYCLE_EMPTY and self.queue.runnable():     # steps beyond the budget
            self.step_tasks()
            return CYCLE_WORKED
        return result

    def turns(self, int most):
        """Up to so many cycles, while nothing is run but the engine; what the last came to.

        Then nobody can have given the loop anything to do: its turn may wait for some bursts.
        Where a handler was told of something, a task of the loop's may be what reads it.
        """
        cdef uint64_t steps
        cdef int result
        while True:
            steps = self.queue.steps + 1        # the cycle's own
            self.told = False
            result = self.turn_before(self.next_call_ns())
            most -= 1
            if result != CYCLE_WORKED or most <= 0:
                return result
            if (self.told or self.queue.steps != steps or self.spawn is not None
                    or self.due_ns != INT64_MAX):
                return result

    def idle(self, limit_ns=None):
        """No frames come: time goes by, to the next timer and at most to limit_ns.

        False: no timer is left, and there is no limit.
        """
        cdef int64_t now = self.core.state.now
        due = self.next_due_ns()
        if limit_ns is not None:
            due = limit_ns if due is None else min(due, limit_ns)
        if due is None:
            return False
        self.queue.pumping = True
        try:
            self.idle_to(max(due, now))
        finally:
            self.queue.pumping = False
        return True

    def idle_until(self, int64_t wall_ns):
        """A live source has nothing: engine time follows the machine's clock (ns since the epoch).

        Returns the ns until something is due, None where nothing is.
        """
        cdef int64_t now = clock_idle(&self.core.state.clock, wall_ns)
        while self.core.state.now < now:
            self.idle(now)
        due = self.next_due_ns()
        return None if due is None else max(due - now, 0)

    def next_due_ns(self):
        """When the next timer is due, the engine's or a task's; None: there is none."""
        cdef int64_t due = self.earliest(None)
        if self.core.state.wheel.armed:
            due = min(due, self.core.state.wheel.next_ns)
        return None if due == INT64_MAX else due

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
        self.feed.ended = True
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
        self.feed.drop()
        self.finish(<uint8_t>reason)

    def drop_frames(self):
        """Gives back frames that were read and will not be processed."""
        self.feed.drop()

    @property
    def received(self):
        """Frames of the source that passed -f."""
        return self.feed.received

    @property
    def unprocessed(self):
        """Frames that were received and have not been through the engine."""
        return self.feed.now_batch.count - self.feed.head + self.feed.next_batch.count

    @property
    def filtered(self):
        """Frames that did not pass -f."""
        return self.feed.filtered

    @property
    def handler_errors(self):
        """Functions of the app that raised, handlers included."""
        return self.faults.errors

    @property
    def is_closed(self):
        """Whether the open flows were closed: nothing more will come."""
        return self.closed
