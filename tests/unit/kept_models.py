"""Classes with what ``==`` does not see: for the table in `test_values_kept`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import uuid
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from typing_extensions import TypedDict


class Word(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


class Letter(enum.StrEnum):
    A = "a"


class Flags(enum.Flag):
    A = 1
    B = 2


class Twice(enum.Enum):
    FIRST = 1
    ALIAS = 1  # noqa: PIE796 (on purpose)
    TEXT = "1"


class Corner(enum.Enum):
    TOP = (0, 0)


@dataclasses.dataclass
class Plain:
    x: Any = None


@dataclasses.dataclass
class Quiet:
    """Fields that comparison, repr and constructor leave out."""

    x: int = 0
    unseen: int = dataclasses.field(default=0, compare=False, repr=False)
    made: int = dataclasses.field(default=0, init=False, compare=False)

    @functools.cached_property
    def square(self) -> int:
        return self.x**2


@dataclasses.dataclass(slots=True)
class Slots:
    when: dt.datetime
    pair: tuple[int, str] = (0, "")
    rows: list[list[float]] = dataclasses.field(default_factory=list[list[float]])


@dataclasses.dataclass
class Seeded:
    x: int
    seed: dataclasses.InitVar[int] = 0
    kept: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, seed: int) -> None:
        self.kept = seed


@dataclasses.dataclass
class Books(dict[str, int]):
    """A dict that has a field besides."""

    owner: str = ""


@dataclasses.dataclass(eq=False)
class Identity:
    x: float


class Part(BaseModel):
    sku: str
    count: int = 1


class Patch(BaseModel):
    name: str | None = None
    parts: list[Part] = []
    by_name: dict[int, Part] = {}
    first: tuple[Part, ...] = ()
    main: Part | None = None
    also: Slots | None = None

    @functools.cached_property
    def size(self) -> int:
        return len(self.parts)


class Ticket(BaseModel):
    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    made: dt.datetime = Field(default_factory=lambda: dt.datetime.now(dt.UTC))
    note: str = ""


class Frozen(BaseModel, frozen=True):
    x: int = 1
    y: int = 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: int = 1


class OpenParts(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Part]  # pyright: ignore[reportIncompatibleVariableOverride] (as pydantic has it)


class Private(BaseModel):
    x: int = 1
    _secret: int = PrivateAttr(0)


class Aliased(BaseModel):
    x: int = Field(1, alias="theX")
    parts: list[Part] = Field([], validation_alias="theParts")


class Secret(BaseModel):
    word: pydantic.SecretStr


class Excluding(BaseModel):
    x: int = 1
    hidden: int = Field(default=0, exclude=True)


class Dropping(BaseModel):
    """Its serializer leaves out what is None."""

    x: int | None = None
    y: int = 2

    @pydantic.model_serializer
    def write(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


class StrictMoments(BaseModel, strict=True):
    moment: dt.datetime
    at: dt.time | None = None


class Numbers(BaseModel):
    a: float = 0.0
    b: complex = 0j
    c: Fraction = Fraction(1)


class Base(BaseModel):
    x: int = 1


class Sub(Base):
    y: int = 2


class AnySub(BaseModel):
    base: pydantic.SerializeAsAny[Base]


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str = ""


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


class Pair(NamedTuple):
    left: int
    right: str = "x"


class SubPair(Pair):
    """Has a ``__dict__``, unlike its base."""


class Settings(TypedDict, total=False):
    a: int
    b: int


class Struct(msgspec.Struct):
    when: dt.datetime | None = None
    at: dt.time | None = None
    numbers: list[int] = []
    pair: tuple[int, ...] = ()
    x: float = 0.0


class AnyStruct(msgspec.Struct):
    anything: Any = None
    numbers: list[int] = []


class OpenStruct(msgspec.Struct, dict=True):
    x: int = 0


class MaybeStruct(msgspec.Struct):
    x: int | msgspec.UnsetType = msgspec.UNSET


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="allow"))
class OpenData:
    x: int
