"""S37: nobody waits for ever because another one waits too, or because a connection is gone."""

from __future__ import annotations

import asyncio
import traceback

import pytest
from msgspec import Raw

from infinitic import Client
from infinitic.client.waits import Request
from infinitic.errors import TransportError
from infinitic.messages import client as responses, engine
from infinitic.transport import TransportClosed
from infinitic_testing.loop import VirtualLoop, run
from tests.simulation.desk import Job
from tests.unit.scripted import ScriptedTransport, delivery


async def quiet() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    await loop.wait_idle()


@pytest.mark.parametrize("fails", [False, True], ids=["cancelled", "refused"])
def test_who_gives_up_while_its_request_is_sent_leaves_nobody_behind(fails: bool) -> None:
    """Two wait for one result by one request. If the first is cancelled, the second waits on."""
    transport = ScriptedTransport()

    async def main() -> None:
        async with Client(transport, name="client") as client:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            transport.before_publish = lambda topic: gate
            first, second = (asyncio.create_task(client.get_handle(Job.run, "w").result()) for _ in range(2))
            await quiet()
            if fails:
                gate.set_exception(TransportError("no"))
            else:
                first.cancel()
            await quiet()
            with pytest.raises((asyncio.CancelledError, TransportError)):
                await first
            transport.before_publish = lambda topic: None
            if not fails:
                gate.set_result(None)
            await quiet()
            if fails:
                with pytest.raises(TransportError):
                    await second
                return
            (sent,) = transport.on("workflow-engine")
            asked = engine.decode(sent.body)
            assert isinstance(asked, engine.Wait)
            answer = responses.MethodCompleted(request=asked.reply_to.request, value=Raw(b'"done"'))
            transport.consumers["client:client"].waiting.put_nowait(delivery(responses.encode(answer)))
            async with asyncio.timeout(5.0):
                assert await second == "done"

    run(main())


@pytest.mark.parametrize("error", [TransportClosed("closed"), TransportError("odd")], ids=["closed", "odd"])
def test_who_waits_learns_that_no_answer_can_come(error: TransportError, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport was closed before the client: whoever waited did so for ever."""
    transport = ScriptedTransport()

    async def main() -> None:
        async with Client(transport, name="client") as client:
            waiting = asyncio.create_task(client.new_workflow(Job).run("x"))
            await quiet()

            async def closed(*args: object, **options: object) -> None:
                raise TransportClosed("closed")

            monkeypatch.setattr(transport, "subscribe", closed)
            transport.consumers["client:client"].waiting.put_nowait(error)
            async with asyncio.timeout(60.0):
                with pytest.raises(TransportError):
                    await waiting
            with pytest.raises(TransportError):
                await client.new_workflow(Job).run("x")

    run(main())


def test_many_wait_for_one_answer_and_some_leave() -> None:
    async def main() -> None:
        request = Request("w")
        tasks = [asyncio.create_task(request.answer()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answer = responses.MethodCanceled(request="1")
        request.settle(answer)
        request.fail(RuntimeError("too late"))
        given = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in given] == [True, False] * 5
        assert given[1::2] == [answer] * 5
        assert await request.answer() is answer, "whoever comes later gets it at once"

    run(main())


def test_an_error_that_many_wait_for_has_a_short_traceback() -> None:
    async def main() -> None:
        request = Request("w")
        tasks = [asyncio.create_task(request.answer()) for _ in range(100)]
        await asyncio.sleep(0)
        error = TransportError("lost")
        request.fail(error)
        assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 100
        with pytest.raises(TransportError):
            await request.answer()
        assert len(list(traceback.walk_tb(error.__traceback__))) < 10

    run(main())
