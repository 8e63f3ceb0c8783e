"""Packet functions, called in place; see packethooks.pxd."""
from aiomos._engine.filters cimport FrameFilter
from aiomos._engine.flow cimport Flow
from aiomos._engine.packet cimport PacketBase, packet_borrow, packet_copy, packet_end
from aiomos._engine.state cimport HOOK_PACKET
from aiomos._engine.task cimport FlowTask, flow_task_new


cdef class PacketHooks:
    """``rules``: (FrameFilter or None, function, whether it is async, class of packets)."""

    def __init__(self, Core core not None, TaskQueue queue not None, Faults faults not None,
                 rules, spawn):
        self.core = core
        self.queue = queue
        self.faults = faults
        self.spawn = spawn
        self.fresh = []
        self.take_rules(rules)

    def take_rules(self, rules):
        """Functions in the place of those there were."""
        self.rules = tuple(rules)
        self.core.state.hook_contexts[HOOK_PACKET] = <void *>self
        self.core.state.hooks[HOOK_PACKET] = NULL
        if self.rules:
            self.core.state.hooks[HOOK_PACKET] = packet_trampoline

    def detach(self):
        """Takes the hook out of the core."""
        self.core.state.hooks[HOOK_PACKET] = NULL

    cdef int call(self, Packet *p) except -1:
        cdef PacketBase packet = None
        for frame_filter, function, wants_copy, cls in self.rules:
            if frame_filter is not None and not (<FrameFilter>frame_filter).match(p.frame):
                continue
            try:
                if wants_copy:
                    self.fresh.append((function(packet_copy(cls, p)), function))
                    continue
                if packet is None:
                    packet = packet_borrow(cls, p)
                function(packet)
            except BaseException as error:
                self.faults.raised(None, error, function)
        if packet is not None:
            packet_end(packet)
        return 0

    cdef int start_tasks(self) except -1:
        """Coroutines of async functions begin after the burst."""
        cdef FlowTask task
        fresh, self.fresh = self.fresh, []
        for coroutine, function in fresh:
            if self.spawn is not None:
                self.spawn(coroutine, None, self.ending(function))
                continue
            task = flow_task_new(coroutine, self.queue, None)
            task.on_done = self.ending(function)
            self.queue.push(task)
        return 0

    def ending(self, function):
        """What to call when a task of this function has ended."""
        def ended(task):
            if not task.cancelled() and task.exception() is not None:
                self.faults.failed(None, task.exception(), function)
        return ended


cdef int packet_trampoline(void *context, Flow *flow, Packet *packet, int event) noexcept with gil:
    """The worker holds the GIL through a burst: this costs a call, not an acquisition."""
    (<PacketHooks>context).call(packet)
    return 0
