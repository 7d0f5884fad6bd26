"""The names that blocks of code without a file may use: what a reader takes for granted there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from infinitic import (
    Channel,
    Client,
    Deferred,
    ExponentialBackoff,
    SyncClient,
    Worker,
    Workflow,
    all_of,
    any_of,
    query,
    service,
    task,
    task_context,
    workflow,
)
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

__all__ = [
    "UTC",
    "Any",
    "BaseModel",
    "Cart",
    "Channel",
    "Client",
    "Deferred",
    "ExponentialBackoff",
    "Flight",
    "Flights",
    "Hotel",
    "Hotels",
    "InMemoryStorage",
    "InMemoryTransport",
    "Invoice",
    "Literal",
    "Mailer",
    "Order",
    "OrderData",
    "Parcel",
    "Path",
    "Protocol",
    "Receipt",
    "Request",
    "Sequence",
    "SyncClient",
    "Worker",
    "Workflow",
    "all_of",
    "any_of",
    "asyncio",
    "dataclass",
    "datetime",
    "json",
    "os",
    "query",
    "service",
    "task",
    "task_context",
    "timedelta",
    "workflow",
]

Request = str
Flight = str
Hotel = str


@dataclass(frozen=True)
class Order:
    number: int


@dataclass(frozen=True)
class Receipt:
    number: int


@dataclass(frozen=True)
class OrderData:
    items: list[str]


class Flights:
    async def book(self, request: Request) -> Flight:
        return f"flight to {request}"

    def price(self, request: Request) -> int:
        return 120


class Hotels:
    async def book(self, request: Request) -> Hotel:
        return f"hotel in {request}"


class Mailer:
    async def send(self, day: int) -> None:
        """Send nothing."""

    async def confirm(self, booking: str) -> None:
        """Confirm nothing."""


class Invoice(Workflow):
    async def issue(self, order: OrderData) -> str:
        return f"invoice of {len(order.items)} items"


class Parcel(Workflow):
    async def ship(self, item: str) -> str:
        return f"parcel with {item}"


class Cart(Workflow):
    async def total(self) -> OrderData:
        return OrderData(["book"])
