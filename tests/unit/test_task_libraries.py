"""Libraries that look inside the running task, inside a flow task: anyio and aiohttp."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from task_pump import Mailbox, both_loops, turns  # noqa: F401

NOT_HERE = "checked where the library is installed"


def test_anyio_move_on_after_ends_a_parked_read(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        box = Mailbox(pump)

        async def handler():
            with anyio.move_on_after(0.01) as scope:
                await box.read()
            assert scope.cancelled_caught
            assert not box.parking.waiting()
            assert asyncio.current_task().cancelling() == 0
            return await box.read()

        task = pump.spawn(handler())
        await asyncio.sleep(0.03)
        box.put(1)
        assert await task == 1

    run(main)


def test_anyio_fail_after_and_checkpoints(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        box = Mailbox(pump)

        async def handler():
            await anyio.lowlevel.checkpoint()
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await box.read()
            await anyio.sleep(0)
            return anyio.get_current_task().name

        assert await pump.spawn(handler(), name="flow") == "flow"

    run(main)


def test_anyio_task_group_runs_children_and_takes_errors(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        boxes, got = [Mailbox(pump), Mailbox(pump)], []

        async def reader(box):
            got.append(await box.read())

        async def fail():
            await anyio.sleep(0)
            raise ValueError("child")

        async def handler():
            async with anyio.create_task_group() as group:
                for box in boxes:
                    group.start_soon(reader, box)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(fail)
                    await boxes[0].read()
            except* ValueError:
                got.append("child failed")
            return "done"

        task = pump.spawn(handler())
        await turns()
        boxes[1].put(1)
        boxes[0].put(0)
        assert await task == "done"
        assert got == [1, 0, "child failed"]

    run(main)


def test_anyio_cancel_scope_cancelled_by_a_child_ends_the_parked_host(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        box = Mailbox(pump)

        async def cancel(scope):
            await anyio.sleep(0.001)
            scope.cancel()

        async def handler():
            async with anyio.create_task_group() as group:
                group.start_soon(cancel, group.cancel_scope)
                await box.read()
            return asyncio.current_task().cancelling()

        assert await pump.spawn(handler()) == 0

    run(main)


def test_anyio_shielded_scope_lets_a_read_finish(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        box = Mailbox(pump)

        async def handler():
            with anyio.move_on_after(0.005), anyio.CancelScope(shield=True):
                return await box.read()

        task = pump.spawn(handler())
        await asyncio.sleep(0.02)
        assert not task.done()
        box.put("kept")
        assert await task == "kept"

    run(main)


def test_anyio_to_thread_comes_back_to_the_flow_task(run):
    anyio = pytest.importorskip("anyio", reason=NOT_HERE)

    async def main(pump):
        async def handler():
            answer = await anyio.to_thread.run_sync(lambda: 6 * 7)
            return answer, asyncio.current_task()

        task = pump.spawn(handler())
        assert await task == (42, task)

    run(main)


def test_aiohttp_client_and_server_inside_flow_tasks(run):
    web = pytest.importorskip("aiohttp.web", reason=NOT_HERE)
    aiohttp = pytest.importorskip("aiohttp", reason=NOT_HERE)

    async def main(pump):
        async def hello(request):
            return web.Response(text="hello " + request.query["name"])

        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]

        async def ask(session, name):
            url = f"http://127.0.0.1:{port}/?name={name}"
            async with asyncio.timeout(5), session.get(url) as response:
                return await response.text()

        async def handler():
            timeout = aiohttp.ClientTimeout(total=5)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                first = await ask(session, "flow")
                return [first, *await asyncio.gather(ask(session, "a"), ask(session, "b"))]

        assert await pump.spawn(handler()) == ["hello flow", "hello a", "hello b"]
        await runner.cleanup()

    run(main)
