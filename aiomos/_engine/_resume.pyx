"""What it costs to resume a coroutine that waits for data: the aiomos side of
benchmarks/resume.py. Built with -Dtesting_hooks=true."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memset

import asyncio
import time

from aiomos._engine.core cimport Core
from aiomos._engine.flow cimport Flow
from aiomos._engine.flowtable cimport table_add
from aiomos._engine.limits cimport CLIENT, PROTO_TCP
from aiomos._engine.stream cimport STREAM_EOF, stream_append_bytes, stream_new
from aiomos._engine.task cimport FlowTask, flow_task_new
from aiomos._engine.taskqueue cimport TaskQueue
from aiomos._engine.flowview cimport FlowBase, flow_view_new
from aiomos._engine.handler cimport Handler
from aiomos._engine.wire cimport Packet


cdef FlowBase waiting_flow(Core core, TaskQueue queue, Handler handler, int number,
                           object flow_class, object endpoint_class):
    """A flow of its own whose client side is kept and read."""
    cdef Packet p
    cdef Flow *f
    cdef FlowBase view
    memset(&p, 0, sizeof(Packet))
    p.k0 = number
    p.hash = number
    p.ip_version = 4
    p.protocol = PROTO_TCP
    f = table_add(&core.state.table, &p)
    f.protocol = PROTO_TCP
    f.ip_version = 4
    f.stream[CLIENT] = stream_new(&core.state.pool, 0)
    view = flow_view_new(flow_class, endpoint_class, core, f, queue, handler)
    view.end0.attach(0, 0)
    return view


def resume_ns(read_to_end, flow_class, endpoint_class, int resumes, int burst, bytes chunk):
    """CPU ns a resume: each turn gives every one of ``burst`` flows a chunk and steps them.

    ``read_to_end(flow)`` reads flow.client to its end and returns the number of bytes.
    """
    cdef Core core = Core()
    cdef FlowBase view
    cdef FlowTask task
    cdef int i
    loop = asyncio.new_event_loop()
    cdef TaskQueue queue = TaskQueue(loop)
    handler = Handler(read_to_end, "read_to_end", PROTO_TCP, 1, 1, 0, 65536, 0)
    views = []
    tasks = []
    for i in range(burst):
        view = waiting_flow(core, queue, handler, i + 1, flow_class, endpoint_class)
        views.append(view)
        tasks.append(flow_task_new(read_to_end(view), queue, view))
    for task in tasks:
        task.step()
    began = time.process_time_ns()
    for _ in range(resumes // burst):
        for view in views:
            stream_append_bytes(view.end0.fl.stream[CLIENT],
                                <const uint8_t *>PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
            view.end0.changed()
        queue.run(burst)
    spent = time.process_time_ns() - began
    for view in views:
        view.end0.fl.stream[CLIENT].flags |= STREAM_EOF
        view.end0.changed()
    queue.run(burst)
    totals = {task.result() for task in tasks}
    loop.close()
    if totals != {resumes // burst * len(chunk)}:
        raise AssertionError(f"a reader missed bytes: {totals}")
    return spent / (resumes // burst * burst)
