"""The instances that a simulation keeps: what they did, and whether their code repeats it.

They are read from the database itself. That takes no time, and no fault is in the way. Instances
whose retention ends while the simulation runs are kept, too: virtual time passes quickly.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.state import WorkflowHead
from infinitic.errors import NonDeterminismError, UsageError, WorkflowCodeError
from infinitic.messages.events import Event
from infinitic.runtime.history import decode_events, decode_head
from infinitic.storage import Segment, StateKey, Stored
from infinitic.storage.integrity import check_head, check_segment
from infinitic_storages.memory import Database
from infinitic_testing.explaining import FindSpecs
from infinitic_testing.histories import (
    HistoryFileError,
    RecordedHistory,
    find_files,
    make_history,
    read_history,
    replay_recorded,
    write_history,
)
from infinitic_testing.replay_check import check_replay
from infinitic_testing.steps import Step, list_steps


class KeptInstances:
    """Reads the instances of one database.

    Args:
        database: the database.
        find_specs: gives the hosted versions of a workflow, by its name.
    """

    def __init__(self, database: Database, find_specs: FindSpecs) -> None:
        self._database = database
        self._find_specs = find_specs
        self._purged: dict[StateKey, tuple[Stored, Sequence[Segment]]] = {}
        database.on_purge = self._keep

    def _keep(self, key: StateKey, stored: Stored, segments: Sequence[Segment]) -> None:
        self._purged[key] = stored, segments

    def _list_keys(self) -> list[StateKey]:
        """All instances: by name, then in the order of their start, as far as it is known."""
        return list(dict.fromkeys([*self._purged, *self._database.list_keys()]))

    def list_steps(self, key: StateKey) -> list[Step]:
        """See `Simulation.steps`."""
        found = self._read(key)
        if found is None:
            raise UsageError(f"There is no workflow {key.name} {key.id}: it never started")
        head, segments = found
        spec = next(iter(self._find_specs(key.name).values()), None)
        coder = None if spec is None else spec.coder
        return list_steps(head, [decode_events(key, each) for each in segments], coder)

    def describe(self, instances: int, steps: int) -> list[str]:
        """See `Simulation.describe_instances`."""
        lines: list[str] = []
        keys = self._list_keys()
        for key in keys[:instances]:
            found = self._read(key)
            if found is None:
                continue
            did = self.list_steps(key)
            lines.append(f"workflow {key.name} {key.id}: {found[0].status}, {len(did)} step(s)")
            if len(did) > steps:
                lines.append(f"  {len(did) - steps} earlier step(s)")
            lines += [f"  {step!r}" for step in did[-steps:]]
        if len(keys) > instances:
            lines.append(f"and {len(keys) - instances} more workflow(s)")
        return lines

    def check_all(self) -> None:
        """See `Simulation.check_replay`."""
        for key in self._list_keys():
            self._check(key)

    def record(self, folder: Path, test: str, root: Path) -> list[Path]:
        """See `Simulation.record_histories`."""
        written: list[Path] = []
        counts = Counter[str]()
        prefix = f"{root.resolve()}{os.sep}"
        for key in self._list_keys():
            checked = self._check(key, only_closed=True, find_lines=True)
            if checked is None:
                continue
            head, happened, lines = checked
            counts[key.name] += 1
            number = counts[key.name]
            path = folder / f"{make_file_name(key.name)}{f'-{number}' if number > 1 else ''}.json"
            short = [None if line is None else line.removeprefix(prefix) for line in lines]
            write_history(path, make_history(head, happened, short, test))
            written.append(path)
        return written

    def replay_files(self, path: Path) -> list[RecordedHistory]:
        """See `Simulation.replay`."""
        found = [(each, read_history(each)) for each in find_files(path)]
        coded = [(each, history, self._find_code(each, history)) for each, history in found]
        failure: NonDeterminismError | WorkflowCodeError | None = None
        others: list[str] = []
        for each, history, spec in coded:
            try:
                replay_recorded(each, history, spec)
            except (NonDeterminismError, WorkflowCodeError) as error:
                if failure is None:
                    failure = error
                else:
                    others.append(str(each))
        if failure is not None:
            if others:
                failure.add_note(f"{len(others)} more of {len(found)} histories differ: {', '.join(others)}")
            raise failure
        return [history for _, history in found]

    def _find_code(self, path: Path, history: RecordedHistory) -> WorkflowSpec:
        versions = self._find_specs(history.workflow)
        spec = versions.get(history.version)
        if spec is not None:
            return spec
        what = f"{path} holds a history of workflow '{history.workflow}', version {history.version}"
        if versions:
            known = ", ".join(map(str, sorted(versions)))
            raise HistoryFileError(f"{what}, but only version {known} is hosted: host the class of this version, too")
        raise HistoryFileError(f"{what}, which is not hosted: call sim.add_workflow({history.workflow}) first")

    def _check(
        self, key: StateKey, *, only_closed: bool = False, find_lines: bool = False
    ) -> tuple[WorkflowHead, list[Event], list[str | None]] | None:
        found = self._read(key)
        if found is None:
            return None
        head, segments = found
        spec = None if head.version is None else self._find_specs(head.name).get(head.version)
        if spec is None or head.stalled is not None or (only_closed and not head.closed):
            return None
        return head, *check_replay(key, head, segments, spec, find_lines=find_lines)

    def _read(self, key: StateKey) -> tuple[WorkflowHead, list[Segment]] | None:
        stored = self._database.load([key]).get(key)
        segments: Sequence[Segment]
        if stored is not None:
            segments = self._database.history(key, limit=max(stored.sequence, 1))
        elif key in self._purged:
            stored, segments = self._purged[key]
        else:
            return None
        return decode_head(key, check_head(key, stored)), [check_segment(key, each) for each in segments]


def make_file_name(name: str) -> str:
    """Make a name that any file system takes. Two names that differ stay different.

    Args:
        name: any text.
    """
    plain = re.sub(r"[^\w.\[\]-]+", "_", name)[:100]
    if plain == name and plain.strip("."):
        return plain
    return f"{plain.strip('.')}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
