"""The imperative shell: the only place that receives, loads, saves, sends and acknowledges."""
