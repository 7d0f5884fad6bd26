"""What a simulation runs: one worker, or several workers in processes of their own."""
