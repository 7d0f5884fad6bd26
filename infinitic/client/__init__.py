"""Clients: programs that start workflows, wait for them, signal, cancel and inspect them."""
