"""The in-memory transport keeps the contract."""

from __future__ import annotations

from tests.conformance.transport_memory import OnMemory


class TestInMemory(OnMemory):
    pass
