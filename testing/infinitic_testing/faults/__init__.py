"""The faults of a simulation: their names, and when and how often they happen in a run."""
