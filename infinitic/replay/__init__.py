"""How workflow code runs.

One private event loop for each instance, fed by activations, replayed from history.
"""
