"""How workflow code runs: one private event loop for each instance, fed by activations, replayed from history."""
