"""Pure functions from state and input to state and effects.

They await nothing, and ask for no time, no random numbers and no I/O.
"""
