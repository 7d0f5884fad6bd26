"""Pure functions from state and input to state and effects. No `await`, no clock, no randomness, no I/O."""
