"""Event listeners. Each needs a server."""
