"""What the nemesis does: one function for each fault."""

from infinitic_testing.cluster.actions.action import Action as Action
from infinitic_testing.cluster.actions.messages import MESSAGE_ACTIONS
from infinitic_testing.cluster.actions.servers import SERVER_ACTIONS
from infinitic_testing.cluster.actions.workers import WORKER_ACTIONS

ACTIONS: tuple[Action, ...] = (*WORKER_ACTIONS, *SERVER_ACTIONS, *MESSAGE_ACTIONS)
"""All of them. The order is that in which they are drawn."""

__all__ = ["ACTIONS", "Action"]
