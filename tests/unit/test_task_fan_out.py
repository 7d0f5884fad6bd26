"""Messages by a tag of tasks go out in pages (S33)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec import Raw

from infinitic import ids, topics
from infinitic.messages import engine
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import make_tag_key
from infinitic.messages.task_tags import ByTaskTag, decode, encode, make_token, read_token
from infinitic.runtime.tag_engine import pages as tag_pages
from infinitic.runtime.tag_engine.task_fan_out import TaskFanOut
from infinitic.storage import TagChange, TagKey, TagKind
from infinitic.transport import Delivery, Message, Outgoing
from infinitic_storages.memory import InMemoryStorage

NOW = 1_800_000_000.0
KEY = TagKey(TagKind.TASK, "Payments", "eu")
TASKS = sorted(make_token("Order", f"w{instance}", 0, position) for instance in range(3) for position in range(3))
CANCEL = engine.CancelTask(made_at=NOW, request_id="op", by="client")
RETRY = engine.RetryTasks(made_at=NOW, request_id="op", service="Payments", tag="eu")


def make_by_tag(message: engine.Input) -> ByTaskTag:
    return ByTaskTag(made_at=NOW, operation="op", input=Raw(engine.encode(message)))


def send(sending: TaskFanOut, first: ByTaskTag, tokens: Sequence[str]) -> list[list[Outgoing]]:
    """Send all pages to these tasks, and to none that has got the tag a minute later."""

    async def run() -> list[list[Outgoing]]:
        storage = InMemoryStorage()
        late = make_token("Order", "w1", 0, 9)
        changes = [TagChange(KEY, token, True, 0, NOW) for token in tokens]
        await storage.tags.update([*changes, TagChange(KEY, late, True, 0, NOW + 60.0)])
        pages: list[list[Outgoing]] = []
        following: ByTaskTag | None = first
        while following is not None:
            delivery = Delivery(Message("op", make_tag_key("eu"), encode(following)), 1, NOW)
            page = await sending.make_page(storage.tags, KEY, delivery, following)
            sending.note_done(following)
            following = None
            if page and page[-1].topic == topics.service_tag("Payments"):
                decoded = decode(page.pop().message.body)
                assert isinstance(decoded, ByTaskTag)
                following = decoded
            pages.append(page)
        return pages

    return asyncio.run(run())


@pytest.mark.parametrize("page", [1, 2, 4, 9, 10])
def test_S33_each_task_is_cancelled_once_page_by_page(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_pages, "PAGE", page)
    pages = send(TaskFanOut("Payments"), make_by_tag(CANCEL), TASKS)
    assert all(len(each) <= page for each in pages)
    sent = [each for some in pages for each in some]
    assert {each.topic for each in sent} == {topics.workflow_engine("Order")}
    for token, each in zip(TASKS, sent, strict=True):
        place = read_token(token)
        asked = engine.decode(each.message.body)
        mark = ids.task_operation_id("op", 0, place.position)
        assert asked == engine.CancelTask(made_at=NOW, request_id=mark, position=place.position, by="client")
        assert (each.message.key, each.message.id) == (place.workflow_id, mark)


@pytest.mark.parametrize("page", [1, 2, 4, 9, 10])
def test_S33_each_instance_is_asked_to_retry_and_knows_the_second_message(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_pages, "PAGE", page)
    pages = send(TaskFanOut("Payments"), make_by_tag(RETRY), TASKS)
    for some in pages:
        keys = [each.message.key for each in some]
        assert keys == list(dict.fromkeys(keys)), "once in a page"
    sent = [each.message for some in pages for each in some]
    assert {each.key for each in sent} == {"w0", "w1", "w2"}
    assert {each.body for each in sent} == {engine.encode(RETRY)}, "they have one deduplication id"


def test_S33_a_page_that_comes_twice_goes_on_once() -> None:
    sending, message = TaskFanOut("Payments"), make_by_tag(CANCEL)
    assert [len(each) for each in send(sending, message, TASKS)] == [9]
    assert send(sending, message, TASKS) == [[]]


def test_what_is_no_operation_on_tasks_is_refused() -> None:
    signal = engine.Signal(made_at=NOW, signal_id="s", channel="go", value=Raw(b"1"))
    with pytest.raises(UndecodableMessage, match="cannot be sent by a tag of tasks"):
        send(TaskFanOut("Payments"), make_by_tag(signal), TASKS)
