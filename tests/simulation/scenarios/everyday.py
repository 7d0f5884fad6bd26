"""The stories as scenarios: what users write every day."""

from __future__ import annotations

from infinitic_testing.simulation import Simulation
from tests.simulation.scenarios.services import KEPT
from tests.simulation.scenarios.stories.combining import COMBINATIONS, SEQUENCES, TIMES
from tests.simulation.scenarios.stories.failing import ERRORS, REPAIR, TIMEOUTS
from tests.simulation.scenarios.stories.signals import SIGNALS, STATE, TAGS
from tests.simulation.scenarios.stories.story import Story

STORIES: dict[str, Story] = {
    "sequences": SEQUENCES,
    "combinations": COMBINATIONS,
    "times": TIMES,
    "everyday_signals": SIGNALS,
    "shared_state": STATE,
    "everyday_tags": TAGS,
    "errors": ERRORS,
    "everyday_timeouts": TIMEOUTS,
    "everyday_repair": REPAIR,
}
"""By the names of their scenarios."""


async def tell(sim: Simulation, story: Story) -> object:
    """Host what a story needs, and play it."""
    for service in story.services():
        sim.add_service(service)
    for workflow in story.workflows:
        sim.add_workflow(workflow, retention=KEPT)
    return await story.play(sim.client)


async def simulate_sequences(sim: Simulation) -> object:
    """Tasks one by one, early and late, by a contract; values of several types."""
    return await tell(sim, SEQUENCES)


async def simulate_combinations(sim: Simulation) -> object:
    """`|`, `&`, `any_of`, `all_of`, and the status of what they combine."""
    return await tell(sim, COMBINATIONS)


async def simulate_times(sim: Simulation) -> object:
    """Timers that are short, past, or completed from outside."""
    return await tell(sim, TIMES)


async def simulate_everyday_signals(sim: Simulation) -> object:
    """Signals by id and tag, by type and filter, limited, missed, and many."""
    return await tell(sim, SIGNALS)


async def simulate_shared_state(sim: Simulation) -> object:
    """Branches and methods that change one attribute."""
    return await tell(sim, STATE)


async def simulate_everyday_tags(sim: Simulation) -> object:
    """The ids of a tag before and after a cancellation; one instance for a custom id."""
    return await tell(sim, TAGS)


async def simulate_errors(sim: Simulation) -> object:
    """Errors of tasks, code, branches and children: raised, caught, ignored and nested."""
    return await tell(sim, ERRORS)


async def simulate_everyday_timeouts(sim: Simulation) -> object:
    """Tasks, children and clients that do not wait for ever."""
    return await tell(sim, TIMEOUTS)


async def simulate_everyday_repair(sim: Simulation) -> object:
    """Failed tasks that run again, once the reason has gone."""
    return await tell(sim, REPAIR)
