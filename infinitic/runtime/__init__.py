"""The shell around the pure engines: it receives, loads, saves, sends and acknowledges.

It has a room for each component of a worker (`state_engine`, `workflow_executor`,
`service_executor`) and one for the life of the process (`lifecycle`). The modules beside the rooms
are shared by them; none of these imports a room, and no room imports another.
"""
