"""The workflow engine: what inputs and commands do to the head of an instance.

`take` takes one input. `begin` opens the activation that hands its stimuli to the code. `decide`
applies the commands that the code gave. `conclude` closes the transition. All are pure.
"""

from infinitic.engines.workflow.decide import begin, begin_elsewhere, decide, note_failures, stall
from infinitic.engines.workflow.input_result import InputResult
from infinitic.engines.workflow.runs import begin_run
from infinitic.engines.workflow.take import take
from infinitic.engines.workflow.transition import Transition, conclude, is_runnable, make_closing_effects

__all__ = [
    "InputResult",
    "Transition",
    "begin",
    "begin_elsewhere",
    "begin_run",
    "conclude",
    "decide",
    "is_runnable",
    "make_closing_effects",
    "note_failures",
    "stall",
    "take",
]
