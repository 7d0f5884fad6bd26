"""One broker and one database in a simulation, and all the ways to them."""

from infinitic_testing.network.network import Network as Network
from infinitic_testing.network.sides import HasConnections as HasConnections

__all__ = ["HasConnections", "Network"]
