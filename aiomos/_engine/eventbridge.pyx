"""Events to functions and coroutines; see eventbridge.pxd."""
from aiomos._engine.eventqueue cimport EventQueue, event_queue_new
from aiomos._engine.eventmake cimport EVENT_TIMER
from aiomos._engine.eventrun import run_events
from aiomos._engine.events cimport EVENT_END, EVENT_IDLE, EVENT_PACKET, EVENTS, HOOK_TIMER
from aiomos._engine.flow cimport FLOW_CLOSED, FLOW_END_TOLD, FLOW_EVENTS
from aiomos._engine.life cimport flow_arm
from aiomos._engine.limits cimport SERVER
from aiomos._engine.packet cimport packet_borrow, packet_end
from aiomos._engine.subscription cimport (EVENTS_QUEUED, TO_FUNCTION, TO_QUEUE, TO_RUNNER,
                                          event_runner_new, subscription_new)
from aiomos._engine.task cimport FlowTask, flow_task_new
from aiomos._engine.flowview cimport flow_view_new


cdef class Telling:
    """An event on its way through those who want it."""


cdef class EventBridge:
    """``rules``: (kinds, hooks, function, is it async, filter expression or None), in order."""

    def __init__(self, Core core not None, TaskQueue queue not None, Faults faults not None,
                 EventMaker maker not None, *, rules, clock, spawn, flow_class, endpoint_class,
                 packet_class):
        self.core = core
        self.queue = queue
        self.faults = faults
        self.maker = maker
        self.clock = clock
        self.spawn = spawn
        self.flow_class = flow_class
        self.endpoint_class = endpoint_class
        self.packet_class = packet_class
        self.handler = Handler(None, "@app.on", 0, 0, 0, 0, 1, 0)
        self.unowned = FlowEvents.__new__(FlowEvents)
        self.behind = []
        self.flows = {}
        core.events = self
        core.state.event_context = <void *>self
        core.state.event = event_trampoline
        self.take_rules(rules)

    def take_rules(self, rules):
        """The app's functions, in the place of those there were: kept only by what they do now."""
        cdef Subscription s
        made = []
        app_kinds = 0
        for kinds, hooks, function, is_async, expression in rules:
            s = subscription_new(kinds, hooks, function, TO_RUNNER if is_async else TO_FUNCTION)
            s.filter_by(expression)
            app_kinds |= s.kinds
            made.append(s)
        self.app_kinds = app_kinds
        self.rules = tuple(made)
        self.want()

    def detach(self):
        """Takes the hook out of the core, and lets go of what open flows hold."""
        cdef uint32_t index
        self.core.state.wanted = 0
        self.core.state.event = NULL
        self.core.events = None
        for index in list(self.flows):
            self.flow_over(&self.core.state.table.flows[index])

    # ---- telling -------------------------------------------------------------------------

    cdef int hear(self, const Event *e) except -1:
        """One event of the core."""
        cdef Telling t
        if e.flow != NULL:
            if e.flow.flags & FLOW_END_TOLD:        # nothing comes behind its end
                return 0
            if e.kind == EVENT_END:
                e.flow.flags |= FLOW_END_TOLD
            if not self.app_kinds >> e.kind & 1 and not e.flow.flags & FLOW_EVENTS:
                return 0
        t = Telling.__new__(Telling)
        t.e = e[0]
        return self.tell(t)

    cdef int tell(self, Telling t) except -1:
        """Now; what is caused by telling another comes behind that (semantics.md 2)."""
        if self.telling:
            if t.event is None:                 # its bytes are gone by then
                t.event = self.maker.make(&t.e)
            self.behind.append(t)
            return 0
        self.telling = True
        try:
            self.tell_all(t)
            while self.behind:
                self.tell_all(self.behind.pop(0))
        finally:
            self.telling = False
        return 0

    cdef int tell_all(self, Telling t) except -1:
        """To the app's functions, then to the flow's subscriptions, as they are now."""
        cdef Subscription s
        cdef FlowEvents fe = self.unowned
        for s in self.chain(&t.e):
            if s.wants(&t.e):
                if t.e.flow != NULL:
                    fe = self.events_of(t.e.flow)
                self.tell_one(s, fe, t)
        if t.packet is not None:
            packet_end(t.packet)
        return 0

    cdef tuple chain(self, const Event *e):
        """Who is asked, in order. Packets from the server go through in reverse."""
        cdef tuple chain = self.rules
        cdef FlowEvents fe
        if e.flow != NULL and e.flow.flags & FLOW_EVENTS:
            fe = <FlowEvents>self.flows[e.flow.index]
            if fe.kinds >> e.kind & 1:
                chain = chain + fe.subscriptions
        return chain[::-1] if e.kind == EVENT_PACKET and e.side == SERVER else chain

    cdef int tell_one(self, Subscription s, FlowEvents fe, Telling t) except -1:
        cdef FlowBase view = s.view
        if t.event is None:
            t.event = self.maker.make(&t.e)
        if s.how == TO_QUEUE:
            return s.queue.put(t.event, t.e.time_ns, t.e.kind == EVENT_END)
        if view is None and t.e.flow != NULL:
            view = self.view_of(t.e.flow)
        if s.how == TO_RUNNER:
            return self.to_runner(s, fe, t)
        return self.call(s, view, t)

    cdef int call(self, Subscription s, FlowBase view, Telling t) except -1:
        """In place: inside packet processing, or inside a timer (then there is no packet)."""
        if t.packet is None and t.e.packet != NULL:
            t.packet = packet_borrow(self.packet_class, t.e.packet)
        try:
            s.function(view, t.event, t.packet)
        except BaseException as error:
            self.faults.raised(view, error, s.function)
        return 0

    cdef int to_runner(self, Subscription s, FlowEvents fe, Telling t) except -1:
        cdef EventRunner runner = fe.runners.get(s)
        cdef EventQueue queue
        if runner is None:
            view = s.view if s.view is not None or t.e.flow == NULL else self.view_of(t.e.flow)
            queue = event_queue_new(self.core, self.maker, self.queue, EVENTS_QUEUED, False)
            runner = event_runner_new(s.function, view, queue, self.faults)
            fe.runners[s] = runner
        runner.queue.put(t.event, t.e.time_ns, t.e.kind == EVENT_END)
        if not runner.running:
            self.start(runner)
        return 0

    cdef int start(self, EventRunner runner) except -1:
        """A task for the events at hand; nothing is stepped before the burst is over."""
        cdef FlowTask task
        coroutine = run_events(runner, runner.function, runner.flow)
        runner.running = True
        if self.spawn is not None:
            self.spawn(coroutine, None, runner.done)
            return 0
        task = flow_task_new(coroutine, self.queue, runner.flow)
        task.on_done = runner.done
        self.queue.push(task)
        return 0

    # ---- what a flow holds ---------------------------------------------------------------

    cdef FlowEvents events_of(self, Flow *f):
        cdef FlowEvents fe
        if f.flags & FLOW_EVENTS:
            return <FlowEvents>self.flows[f.index]
        fe = FlowEvents.__new__(FlowEvents)
        self.flows[f.index] = fe
        f.flags |= FLOW_EVENTS
        return fe

    cdef FlowBase view_of(self, Flow *f):
        """The one flow object that all functions of the app are given."""
        cdef FlowEvents fe = self.events_of(f)
        if fe.view is None:
            fe.view = flow_view_new(self.flow_class, self.endpoint_class, self.core, f,
                                    self.queue, self.handler)
        return fe.view

    cdef int flow_over(self, Flow *f) except -1:
        cdef FlowEvents fe = <FlowEvents>self.flows.pop(f.index)
        cdef Subscription s
        f.flags &= ~<uint32_t>FLOW_EVENTS
        for s in fe.subscriptions:
            self.take_back(s, s.kinds)
        for entry in fe.timers.values():
            self.clock.cancel_call(entry)
        fe.subscriptions = ()
        fe.timers = {}
        fe.view = None                          # it names the flow; runners may live on
        return 0

    # ---- subscribing ---------------------------------------------------------------------

    cdef int count(self, uint32_t kinds, int by) except -1:
        cdef int kind
        for kind in range(EVENT_KINDS):
            if kinds >> kind & 1:
                self.subscribed[kind] += by
        self.want()
        return 0

    cdef void want(self) noexcept:
        """Tells the core the union of what is wanted."""
        cdef int kind
        cdef uint32_t wanted = self.app_kinds
        for kind in range(EVENTS):
            if self.subscribed[kind]:
                wanted |= <uint32_t>1 << kind
        self.core.state.wanted = wanted & ((<uint32_t>1 << EVENTS) - 1)

    cdef int add(self, FlowBase view, Subscription s) except -1:
        cdef Flow *f = view.fl
        cdef FlowEvents fe = self.events_of(f)
        s.view = view
        fe.subscriptions += (s,)
        fe.recount()
        self.count(s.kinds, 1)
        if s.kinds >> EVENT_IDLE & 1:           # its timer may stand far behind that
            flow_arm(self.core.state, f, self.core.state.now)
        return 0

    cdef int take_back(self, Subscription s, uint32_t kinds) except -1:
        """It is told no more events of these kinds, not even the one that is being told."""
        self.count(s.kinds & kinds, -1)
        s.kinds &= ~kinds
        if s.kinds == 0:
            s.view = None
            if s.queue is not None:
                s.queue.end()
        return 0

    def subscribe(self, FlowBase view not None, uint32_t kinds, uint8_t hooks, function,
                  is_async, expression):
        """Calls a function with events of one flow until it is unsubscribed or the flow ends."""
        cdef Subscription s
        s = subscription_new(kinds, hooks, function, TO_RUNNER if is_async else TO_FUNCTION)
        s.filter_by(expression)
        if not view.fl.flags & FLOW_CLOSED:
            self.add(view, s)

    def open_queue(self, FlowBase view not None, uint32_t kinds, uint8_t hooks,
                   Py_ssize_t limit, bint once):
        """A queue of events of one flow, for a coroutine to take from."""
        cdef Subscription s = subscription_new(kinds, hooks, None, TO_QUEUE)
        s.queue = event_queue_new(self.core, self.maker, self.queue, limit, once)
        if view.fl.flags & FLOW_CLOSED:
            s.queue.ended = True
        else:
            self.add(view, s)
        return s.queue

    def unsubscribe(self, FlowBase view not None, what, uint32_t kinds):
        """Takes a function or queue of this view (None: all) back; how many there were."""
        cdef FlowEvents fe
        cdef Subscription s
        cdef int found = 0
        if not view.fl.flags & FLOW_EVENTS:
            return 0
        fe = <FlowEvents>self.flows[view.fl.index]
        for s in fe.subscriptions:
            if s.view is view and s.kinds & kinds and (
                    what is None or s.queue is what or s.function == what):
                found += 1
                self.take_back(s, kinds)
        fe.subscriptions = tuple([s for s in fe.subscriptions if (<Subscription>s).kinds])
        fe.recount()
        return found

    # ---- timers --------------------------------------------------------------------------

    def after(self, FlowBase view not None, double seconds, function, value):
        """A timer of one flow, in seconds on the engine's clock from now; None: it is over."""
        cdef int64_t due_ns = self.clock.now_ns() + <int64_t>(seconds * 1e9)
        if view.fl.flags & FLOW_CLOSED:
            return None
        timers = self.events_of(view.fl).timers

        def fire():
            del timers[entry[1]]
            self.timer_due(view, due_ns, function, value)

        entry = self.clock.call_at(due_ns, fire)
        timers[entry[1]] = entry
        return entry

    def cancel(self, FlowBase view not None, entry):
        """Forgets a timer; False: it fired, or was cancelled."""
        if not view.fl.flags & FLOW_EVENTS:
            return False
        if (<FlowEvents>self.flows[view.fl.index]).timers.pop(entry[1], None) is None:
            return False
        self.clock.cancel_call(entry)
        return True

    def timer_due(self, FlowBase view, int64_t due_ns, function, value):
        """Its own function is told first, then those who want TimerFired."""
        cdef Telling t = Telling.__new__(Telling)
        t.e.flow = view.fl
        t.e.time_ns = due_ns
        t.e.kind = EVENT_TIMER
        t.e.hook = HOOK_TIMER
        t.event = self.maker.timer(value, due_ns)
        if function is not None:
            self.call(subscription_new(0, 0, function, TO_FUNCTION), view, t)
        self.tell(t)


cdef void event_trampoline(void *context, const Event *e) noexcept with gil:
    """The worker holds the GIL through a burst: this costs a call, not an acquisition."""
    cdef EventBridge bridge = <EventBridge>context
    try:
        bridge.hear(e)
    except BaseException as error:          # no memory for an event: traffic goes on
        bridge.faults.raised(None, error, EventBridge)
