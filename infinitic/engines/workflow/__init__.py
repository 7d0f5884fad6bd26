"""The workflow engine: what inputs and commands do to the head of an instance.

`take` accepts one input, `begin` opens the activation that hands its stimuli to the code, `decide` applies the commands
which the code gave, `conclude` closes the transition. All are pure.
"""

from infinitic.engines.workflow.decide import begin, begin_elsewhere, decide, note_failures, stall
from infinitic.engines.workflow.take import take
from infinitic.engines.workflow.taken import Taken
from infinitic.engines.workflow.transition import Transition, conclude, runnable

__all__ = [
    "Taken",
    "Transition",
    "begin",
    "begin_elsewhere",
    "conclude",
    "decide",
    "note_failures",
    "runnable",
    "stall",
    "take",
]
