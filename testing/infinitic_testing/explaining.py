"""Says why a simulation stands still: what each workflow waits for, and who hosts nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from infinitic import ids
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import delegations
from infinitic.errors import InfiniticError
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.waits import list_waits
from infinitic.runtime.history import decode_head, replay_history
from infinitic.storage import Query, Storage
from infinitic.topics import DEAD_LETTERS
from infinitic_transports.memory import Broker

MAX_LISTED = 20
"""How many workflows an error shows, and how many waits of each."""

FindSpecs = Callable[[str], Mapping[int, WorkflowSpec]]
"""Returns the versions of a workflow that are hosted, by its name. May be empty."""


def explain_standstill(
    broker: Broker, storage: Storage, find_specs: FindSpecs, stalled: Mapping[str, InfiniticError]
) -> str:
    """Say why nothing can run: the end of the message of a `DeadlockError`.

    Args:
        broker: all messages.
        storage: a connection that answers without waiting.
        find_specs: finds the code of a workflow.
        stalled: the instances that have stalled, by id, and why.
    """
    lines = explain_workflows(storage, find_specs, stalled)
    for topic, subscriptions in broker.overview().items():
        kind, _, name = topic.partition(":")
        waiting = sum(stats.backlog for stats in subscriptions.values() if not stats.consumers)
        if waiting and topic.startswith(DEAD_LETTERS):
            lines.append(f"{waiting} message(s) became dead letters in {topic}: the log says why")
            continue
        if waiting and kind == "service-executor":
            lines.append(
                f"{waiting} task(s) of service '{name}' wait, but nobody hosts it: "
                f"call sim.add_service(…) or sim.mock({name})"
            )
        elif waiting and kind == "service-tag":
            lines.append(f"{waiting} message(s) about tags of service '{name}' wait: call sim.add_service(…)")
        elif waiting and kind in ("workflow-engine", "workflow-executor", "workflow-tag"):
            lines.append(
                f"{waiting} message(s) for workflow '{name}' wait, but nobody hosts it: call sim.add_workflow(…)"
            )
    return "\n".join(lines)


def explain_workflows(storage: Storage, find_specs: FindSpecs, stalled: Mapping[str, InfiniticError]) -> list[str]:
    """Say which workflows have stalled, and what the running ones wait for, in lines.

    Args:
        storage: a connection that answers without waiting.
        find_specs: finds the code of a workflow.
        stalled: the instances that have stalled, by id, and why.
    """
    lines = [
        f"stalled: {fault}" if key in str(fault) else f"workflow {key} is stalled: {fault}"
        for key, fault in stalled.items()
    ]
    return lines + run_without_waiting(describe_workflows(storage, find_specs))


async def describe_workflows(storage: Storage, find_specs: FindSpecs) -> list[str]:
    """One line for each running workflow, and indented ones: what its code waits for."""
    lines: list[str] = []
    found = (await storage.states.find(Query(status=WorkflowStatus.RUNNING, limit=MAX_LISTED + 1))).found
    for each in found[:MAX_LISTED]:
        stored = (await storage.states.load([each.key])).get(each.key)
        head = None if stored is None else decode_head(each.key, stored)
        if head is None or head.closed or head.stalled is not None:
            continue
        lines.append(f"workflow {each.key.name} {each.key.id}:")
        spec = None if head.version is None else find_specs(head.name).get(head.version)
        if spec is not None:
            instance, pending, _ = await replay_history(each.key, head, spec, storage.states)
            waits = list_waits(instance)
            instance.close()
            lines += [f"  {line}" for line in waits[:MAX_LISTED]]
            if len(waits) > MAX_LISTED:
                lines.append(f"  and {len(waits) - MAX_LISTED} more")
            if pending:
                lines.append(f"  {len(pending)} input(s) were not yet given to its code")
        lines += [
            f"  task {ids.task_id(head.id, head.run, position)} is delegated: it waits for "
            "client.complete_delegated_task(token, …), or fail_delegated_task"
            for position in delegations.list_open(head)[:MAX_LISTED]
        ]
        lines += [f"  a background task failed: {failure}" for failure in head.failures]
    if len(found) > MAX_LISTED:
        lines.append("and more workflows")
    return lines


def run_without_waiting(lines: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run a coroutine while the loop stands still. If it waits for something, return no lines."""
    try:
        lines.send(None)
    except StopIteration as returned:
        return cast("list[str]", returned.value)
    except InfiniticError as error:
        # A replay differs from its history. The test has to know that first of all.
        return [str(error)]
    lines.close()
    return []
