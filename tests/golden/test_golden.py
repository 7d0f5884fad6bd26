"""This release reads what older ones wrote, and writes what its own golden file says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import pytest

from infinitic.engines import effects, state
from infinitic.messages import (
    client,
    cloud_events,
    commands,
    control,
    engine,
    events,
    executor,
    service,
    tags,
    task_tags,
)
from infinitic.storage import Segment, Stored
from infinitic.storage.integrity import check_head, check_segment
from tests.golden import samples, told

FILES = sorted(Path(__file__).parent.glob("release-*.json"))


def plain(value: object) -> Any:
    """A comparable form: raw JSON compares by content."""
    return msgspec.json.encode(value)


def check(decoded: Sequence[object], known: Sequence[object]) -> None:
    """What an older release wrote is what the first ones of our samples say."""
    assert decoded
    assert [plain(each) for each in decoded] == [plain(each) for each in known[: len(decoded)]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_S41_this_release_decodes_messages_and_state_of_that_one(path: Path) -> None:
    golden = json.loads(path.read_text())
    check([engine.decode(each.encode()) for each in golden["inputs"]], samples.INPUTS)
    check([client.decode(each.encode()) for each in golden["responses"]], samples.RESPONSES)
    check([service.decode(each.encode()) for each in _all(golden, "attempt", "attempts")], samples.ATTEMPTS)
    check([executor.decode(each.encode()) for each in _all(golden, "activate", "activations")], samples.ACTIVATIONS)
    check(events.decode(golden["history"].encode()), samples.EVENTS)
    outbox = effects.decode(bytes.fromhex(golden["outbox"]))
    check(outbox.effects, samples.EFFECTS)
    assert outbox.at == (None if path.stem == "release-0.1" else samples.AT)
    heads = [state.decode(bytes.fromhex(each)) for each in _all(golden, "head", "heads")]
    assert heads == samples.HEADS[: len(heads)]
    if "tags" in golden:  # there were none before
        check([tags.decode(each.encode()) for each in golden["tags"]], samples.TAGS)
    if "task_tags" in golden:  # there were none before
        check([task_tags.decode(each.encode()) for each in golden["task_tags"]], samples.TASK_TAGS)
    if "told" in golden:  # there were none before
        found = [event for each in golden["told"] for event in cloud_events.decode(each.encode())]
        assert [each.data for each in found] == [json.loads(plain(each)) for each in told.TOLD]
    if path.stem != "release-0.1":  # it knew neither
        check([control.decode(each.encode()) for each in golden["controls"]], samples.CONTROLS)
        head, sealed, of_outbox = map(bytes.fromhex, golden["stored"])
        kept = Stored(samples.CHANGE.version, head, 3, published=False)
        assert state.decode(check_head(samples.KEY, kept).head) == samples.HEAD
        segment = check_segment(samples.KEY, Segment(3, sealed, of_outbox))
        check(events.decode(segment.events), samples.EVENTS)
        assert segment.outbox is not None
        check(effects.decode(segment.outbox).effects, samples.EFFECTS)


def _all(golden: dict[str, Any], one: str, several: str) -> list[str]:
    """Release 0.1 had one sample of some kinds."""
    return golden[several] if several in golden else [golden[one]]


def test_what_is_written_changes_only_with_a_new_golden_file() -> None:
    path = Path(__file__).with_name(f"release-{samples.RELEASE}.json")
    assert json.loads(path.read_text()) == samples.encoded(), "python -m tests.golden.samples, with a new version"


@pytest.mark.parametrize(
    ("union", "found"),
    [
        (engine.Input, samples.INPUTS),
        (client.Response, samples.RESPONSES),
        (events.Event, samples.EVENTS),
        (commands.Command, samples.COMMANDS),
        (effects.Effect, samples.EFFECTS),
        (control.Control, samples.CONTROLS),
        (tags.TagMessage, samples.TAGS),
        (task_tags.TaskTagMessage, samples.TASK_TAGS),
    ],
    ids=["inputs", "responses", "events", "commands", "effects", "controls", "tags", "task-tags"],
)
def test_every_kind_has_a_sample(union: Any, found: list[object]) -> None:
    assert set(get_args(union)) == {type(each) for each in found}


def test_every_field_has_a_sample_that_sets_it() -> None:
    """Else nobody notices that its name on the wire has changed."""
    unset: dict[tuple[type, str], bool] = {}

    def look(value: object) -> None:
        if isinstance(value, msgspec.Struct):
            for field in msgspec.structs.fields(value):
                found = getattr(value, field.name)
                default = field.default_factory() if callable(field.default_factory) else field.default
                at = (type(value), field.name)
                required = default is msgspec.NODEFAULT
                unset[at] = unset.get(at, True) and not required and plain(found) == plain(default)
                look(found)
        elif isinstance(value, list | tuple):
            for each in cast("Sequence[object]", value):
                look(each)

    look([samples.INPUTS, samples.RESPONSES, samples.ATTEMPTS, samples.CONTROLS, samples.ACTIVATIONS, samples.TAGS])
    look([samples.TASK_TAGS, samples.EVENTS, samples.EFFECTS, samples.HEADS, told.TOLD])
    assert sorted(f"{cls.__name__}.{name}" for (cls, name), is_unset in unset.items() if is_unset) == []


@pytest.mark.parametrize("text", json.loads(FILES[-1].read_text())["inputs"])
def test_S41_unknown_fields_of_a_newer_release_are_ignored(text: str) -> None:
    newer = text[:-1] + ',"zz":{"new":1}}'
    assert plain(engine.decode(newer.encode())) == plain(engine.decode(text.encode()))


def test_S41_fields_that_a_newer_release_added_to_the_head_are_ignored() -> None:
    fields = msgspec.msgpack.decode(state.encode(samples.HEAD))
    assert state.decode(msgspec.msgpack.encode([*fields, "new"])) == samples.HEAD


def test_S41_a_head_of_an_older_schema_is_written_in_the_new_one() -> None:
    [old, *_] = json.loads((Path(__file__).with_name("release-0.2.json")).read_text())["heads"]
    assert msgspec.msgpack.decode(bytes.fromhex(old))[0] == 1
    assert state.encode(state.decode(bytes.fromhex(old))) == state.encode(samples.HEAD)


def test_S41_a_head_of_a_newer_schema_is_left_to_others() -> None:
    fields = msgspec.msgpack.decode(state.encode(samples.HEAD))
    for newer in ([state.SCHEMA + 1, *fields[1:]], [state.SCHEMA + 1, {"another": "shape"}]):
        with pytest.raises(state.NewerSchema):
            state.decode(msgspec.msgpack.encode(newer))
