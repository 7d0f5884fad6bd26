"""What users write every day, on Pulsar and PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

from infinitic import ids
from tests.integration.roles import connections
from tests.integration.stack import need
from tests.simulation.scenarios.everyday import STORIES
from tests.simulation.scenarios.stories.letters import make_services


def test_all_stories_end_as_in_memory(tmp_path: Path) -> None:
    need("postgres")
    workflows = {each.__name__: each for story in STORIES.values() for each in story.workflows}

    async def play() -> dict[str, object]:
        async with (
            asyncio.timeout(120),
            connections("postgres", f"test_{ids.new_id()[:8]}", tmp_path) as (stack, connect, client),
        ):
            worker = await connect()
            for service in make_services():
                worker.add_service(service)
            for workflow in workflows.values():
                worker.add_workflow(workflow)
            await stack.enter_async_context(worker.running())
            return {name: await story.play(client) for name, story in STORIES.items()}

    assert asyncio.run(play()) == {name: story.outcome for name, story in STORIES.items()}
