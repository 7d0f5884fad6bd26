"""The code in docs/values.md runs, and what its text says of datetimes is so."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from infinitic import Workflow
from infinitic.codec.values import value_codec
from infinitic_testing.simulation import Simulation

PAGE = (Path(__file__).parents[2] / "docs/values.md").read_text()


class Flights:
    async def book(self, request: str) -> str:
        return f"flight to {request}"


class Hotels:
    async def book(self, request: str) -> str:
        return f"hotel in {request}"


def names_of(code: str) -> dict[str, Any]:
    """What a block of code defines."""
    names: dict[str, Any] = {"__name__": __name__}
    names |= {"asyncio": asyncio, "Workflow": Workflow, "BaseModel": BaseModel, "Literal": Literal}
    names |= {"Flights": Flights, "Hotels": Hotels, "Request": str, "Flight": str, "Hotel": str}
    exec(compile(code, "docs/values.md", "exec"), names)
    return names


async def test_a_list_is_returned_as_the_tuple_that_its_type_says(sim: Simulation) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    trip: Any = names_of(code)["Trip"]
    sim.add_service(Flights())
    sim.add_service(Hotels())
    sim.add_workflow(trip)
    assert await sim.client.new_workflow(trip).book("Rome") == ("flight to Rome", "hotel in Rome")


def test_a_literal_field_tells_classes_apart() -> None:
    _, code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = names_of(code)
    codec = value_codec(names["Cat"] | names["Dog"])
    for kind in ("Cat", "Dog"):
        pet = names[kind](name="x")
        assert type(codec.decode(codec.encode(pet))) is names[kind]


def test_the_text_of_a_datetime_is_as_written_there() -> None:
    noon = dt.datetime(2024, 10, 26, 12, tzinfo=ZoneInfo("Europe/Paris"))
    assert f"`{value_codec(dt.datetime).encode(noon).decode()}`" in PAGE
