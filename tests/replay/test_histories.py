"""Histories in files: a simulation writes them, and later code is replayed on them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infinitic import Channel, NonDeterminismError, UsageError, Workflow, WorkflowCodeError, workflow
from infinitic_testing.histories import HistoryFileError
from infinitic_testing.kept_instances import make_file_name
from infinitic_testing.loop import run
from infinitic_testing.simulation import Simulation
from tests.replay.harness import Desk
from tests.replay.restart import line_of


class Order(Workflow):
    desk = Workflow.new_service(Desk)
    go = Channel[str]()

    async def run(self, word: str) -> list[str]:
        said = [await self.desk.say(word)]  # HERE
        await self.timer(60)
        said.append(await self.go.receive())
        said.append(await self.desk.say("end"))
        return said


@workflow(name="Order")
class OtherTask(Order):
    async def run(self, word: str) -> list[str]:
        await self.desk.fail(word)  # HERE
        return []


@workflow(name="Order")
class ShorterOrder(Order):
    async def run(self, word: str) -> list[str]:
        said = [await self.desk.say(word)]
        await self.timer(60)
        return [*said, await self.go.receive(), await self.go.receive()]  # HERE


@workflow(name="Order")
class LongerOrder(Order):
    async def run(self, word: str) -> list[str]:
        said = await super().run(word)
        await self.desk.say("more")  # HERE
        return said


@workflow(name="Order")
class NewWords(Order):
    async def run(self, word: str) -> list[str]:
        return await super().run(word.upper())


@workflow(name="Order", replay_check="strict")
class StrictNewWords(NewWords): ...


@workflow(name="Order", version=2)
class SecondVersion(Order): ...


@workflow(name="Order")
class NeedsMore(Order):
    def __init__(self) -> None:
        raise RuntimeError("no such file")


def record(folder: Path, count: int = 1) -> list[Path]:
    """Run some orders, and record them. One more is still open: it is not recorded."""

    async def main() -> list[Path]:
        async with Simulation() as sim:
            sim.add_service(Desk)
            sim.add_workflow(Order)
            for number in range(count + 1):
                handle = await sim.client.dispatch(sim.client.new_workflow(Order).run, f"word {number}")
                if number < count:
                    await sim.client.get_workflow_by_id(Order, handle.workflow_id).go.send("gone")
                    assert await handle.result() == [f"word {number}", "gone", "end"]
            return sim.record_histories(folder, test="test_x.py::test_y", root=Path(__file__).parent)

    return run(main())


def replay(path: Path, *classes: type[Workflow]) -> int:
    """Replay on these classes. That needs no loop: nothing runs but the code of the workflow."""
    sim = Simulation()
    for each in classes:
        sim.add_workflow(each)
    return len(sim.replay(path))


def test_a_folder_is_replayed(tmp_path: Path) -> None:
    written = record(tmp_path / "of" / "trips", 2)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "of/trips/Order.json",
        "of/trips/Order-2.json",
    ]
    assert replay(tmp_path, Order) == 2
    assert replay(written[1], Order, SecondVersion) == 1


async def test_in_a_running_simulation(sim: Simulation, tmp_path: Path) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Order)
    handle = await sim.client.dispatch(sim.client.new_workflow(Order).run, "word")
    await sim.client.get_workflow_by_id(Order, handle.workflow_id).go.send("gone")
    await handle.result()
    sim.record_histories(tmp_path)
    [history] = sim.replay(str(tmp_path))
    assert (history.workflow, history.status, history.workflow_id) == ("Order", "completed", handle.workflow_id)
    assert await handle.result() == ["word", "gone", "end"], "the instance itself is not touched"


def test_a_file_is_read_by_people(tmp_path: Path) -> None:
    [path] = record(tmp_path)
    lines = path.read_text().splitlines()
    here = line_of(Order).removeprefix(f"{Path(__file__).parent}/")
    assert lines[1] == '  "infinitic_history": 1,'
    assert '  "test": "test_x.py::test_y",' in lines
    [asked] = [line for line in lines if "word 0" in line and "Desk.say" in line]
    event = json.loads(asked.strip().rstrip(","))
    assert event["what"] == 'task Desk.say with ["word 0"]'
    assert event["line"] == f"{here} in Order.run"
    assert any('"what":"timer of position 1 fired"' in line for line in lines)
    assert len([line for line in lines if '"what"' in line]) == len(lines) - 13, "one event a line"


DIFFERENCES: list[tuple[type[Workflow], str, str, bool]] = [
    (OtherTask, "task Desk.say with", "task Desk.fail with", True),
    (ShorterOrder, "task Desk.say with", "nothing more", True),
    (LongerOrder, "the return of method", "task Desk.say with", False),
]


@pytest.mark.parametrize(("changed", "then", "now", "line_then"), DIFFERENCES, ids=lambda each: str(each))
def test_a_workflow_that_changed(changed: type[Workflow], then: str, now: str, line_then: bool, tmp_path: Path) -> None:
    [path] = record(tmp_path)
    with pytest.raises(NonDeterminismError) as caught:
        replay(tmp_path, changed)
    text = str(caught.value)
    assert text.startswith(f"{path} (recorded by test_x.py::test_y): Workflow Order ")
    recorded = r", asked for at test_histories.py:\d+ in Order.run when it was recorded" if line_then else ""
    pattern = f"the history holds {then}.*{recorded}, the code asks for {now}.*, at {line_of(changed)} in "
    assert re.search(pattern, text), text


def test_the_first_recorded_line_is_the_one_that_asked(tmp_path: Path) -> None:
    record(tmp_path)
    with pytest.raises(NonDeterminismError) as caught:
        replay(tmp_path, OtherTask)
    here = line_of(Order).removeprefix(f"{Path(__file__).parent}/")
    assert f"asked for at {here} in Order.run when it was recorded" in str(caught.value)


def test_all_files_that_differ_are_named(tmp_path: Path) -> None:
    paths = record(tmp_path, 3)
    with pytest.raises(NonDeterminismError) as caught:
        replay(tmp_path, OtherTask)
    [note] = caught.value.__notes__
    assert note.startswith("2 more of 3 histories differ: ")
    assert sum(str(path) in note for path in paths) == 2


def test_arguments_are_compared_as_the_workflow_says(tmp_path: Path) -> None:
    record(tmp_path)
    assert replay(tmp_path, NewWords) == 1
    with pytest.raises(NonDeterminismError, match=r'the code asks for task Desk.say with \["WORD 0"\]'):
        replay(tmp_path, StrictNewWords)


def test_code_that_cannot_be_run(tmp_path: Path) -> None:
    [path] = record(tmp_path)
    with pytest.raises(WorkflowCodeError, match=re.escape(f"{path} (recorded by") + ".*no such file"):
        replay(tmp_path, NeedsMore)


# Files that cannot be replayed.


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_another_format(tmp_path: Path) -> None:
    [path] = record(tmp_path)
    change(path, lambda content: content.update(infinitic_history=7))
    with pytest.raises(HistoryFileError, match=re.escape(f"{path} has format 7, and this release reads format 1")):
        replay(tmp_path, Order)


BAD_TEXTS = {
    "empty": ("", "is no recorded history"),
    "no JSON": ("{", "is no recorded history"),
    "a list": ("[]", "is no recorded history"),
    "another document": ('{"name": "infinitic"}', "it has no number 'infinitic_history'"),
    "a truth value": ('{"infinitic_history": true}', "it has no number 'infinitic_history'"),
    "parts": ('{"infinitic_history": 1}', "is a damaged history: .*required field `release`"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    text, message = BAD_TEXTS[name]
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(HistoryFileError, match=message):
        replay(tmp_path, Order)


@pytest.mark.parametrize("edit", ["event", "meta"])
def test_a_damaged_history(edit: str, tmp_path: Path) -> None:
    [path] = record(tmp_path)
    if edit == "event":
        change(path, lambda content: content["events"][0]["event"].update(t="unknown"))
    else:
        change(path, lambda content: content["meta"].update(name="no base64!"))
    with pytest.raises(HistoryFileError, match=f"{path} is a damaged history"):
        replay(tmp_path, Order)


def test_nothing_to_replay(tmp_path: Path) -> None:
    with pytest.raises(HistoryFileError, match=f"There are no histories in {tmp_path}"):
        replay(tmp_path, Order)
    with pytest.raises(HistoryFileError, match=r"There is no file or folder .*none.json: pytest --infinitic-record"):
        replay(tmp_path / "none.json", Order)


def test_a_workflow_that_is_not_hosted(tmp_path: Path) -> None:
    [path] = record(tmp_path)
    what = re.escape(f"{path} holds a history of workflow 'Order', version 0")
    with pytest.raises(HistoryFileError, match=what + r", which is not hosted: call sim.add_workflow\(Order\) first"):
        replay(tmp_path)
    with pytest.raises(HistoryFileError, match=what + ", but only version 2 is hosted"):
        replay(tmp_path, SecondVersion)
    assert issubclass(HistoryFileError, UsageError)


def test_names_of_files() -> None:
    names = ["Trip", "shop.Trip", "test_x[1-a]", "a/b", "a b", "../../etc", "Größe", "..", "x" * 300]
    made = [make_file_name(each) for each in names]
    assert made[:3] == names[:3]
    assert made[6] == "Größe"
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"[\w.\[\]-]{1,120}", each) and set(each) != {"."} for each in made)
