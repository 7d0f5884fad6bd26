"""Classes of every kind that can be a type hint, for the tests of the codec."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from typing import (
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    TypeVar,
)
from zoneinfo import ZoneInfo

import msgspec
import pydantic
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr
from typing_extensions import TypeAliasType, TypedDict  # pydantic wants them from here before Python 3.12

T = TypeVar("T")
UserId = NewType("UserId", int)
PARIS = ZoneInfo("Europe/Paris")
NAN, INF = math.nan, math.inf


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.StrEnum):
    BIG = "big"


class Access(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: int = 0


@dataclasses.dataclass
class Twin:
    """Looks like a Point on the wire."""

    x: int
    y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    data: bytes
    weight: float


@dataclasses.dataclass
class Tree:
    leaf: Leaf | None = None
    children: list[Tree] = dataclasses.field(default_factory=list["Tree"])


@dataclasses.dataclass
class Derived:
    x: int
    double: int = dataclasses.field(init=False)
    memo: int = dataclasses.field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.x


@dataclasses.dataclass
class Loose:
    anything: Any = None


class Pair(NamedTuple):
    left: int
    right: float = 1.0


class Options(TypedDict):
    limit: int
    token: NotRequired[bytes]


class Money(BaseModel):
    amount: float
    secret: bytes = b"\xff"
    _checked: int = PrivateAttr(0)


class Bill(BaseModel):
    total: Money
    parts: list[Money] = []


class Named(BaseModel):
    """Each kind of alias that pydantic knows."""

    first: int = Field(alias="firstOne")
    second: int = Field(default=2, validation_alias=AliasChoices("b", "c"))
    third: int = Field(default=3, serialization_alias="thirdOne")
    fourth: int = Field(default=4, validation_alias="fourthOne")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return self.first + self.second


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True)

    first: int = Field(alias="firstOne")


class LooksLikeSchema(BaseModel):
    x: dict[str, Any] = {"type": "model", "schema": {"type": "model-field", "validation_alias": "x"}}


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    x: int


class Allows(BaseModel):
    model_config = ConfigDict(extra="allow")

    x: int


class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


class Kitten(Cat):
    age: int = 1


class Hides(BaseModel):
    x: int
    hidden: int = Field(default=0, exclude=True)


class Box(BaseModel, Generic[T]):
    content: T


class Deferred(BaseModel):
    model_config = ConfigDict(defer_build=True)

    x: float


class OwnInit(BaseModel):
    x: float
    data: bytes = b"abc"

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, ser_json_bytes="hex", val_json_bytes="hex")

    when: dt.date
    data: bytes = b"a"


class Square(BaseModel):
    kind: Literal["square"] = Field(default="square", alias="type")


class Circle(BaseModel):
    kind: Literal["circle"] = Field(default="circle", alias="type")


class Rounds(BaseModel):
    x: int

    @pydantic.field_validator("x")
    @classmethod
    def round(cls, x: int) -> int:
        return x // 10 * 10


class Stubborn(BaseModel):
    x: int

    @pydantic.field_serializer("x")
    def write(self, x: int) -> int:
        raise Silent


class Silent(Exception):
    errors = "not those of pydantic"

    def __str__(self) -> str:
        raise RuntimeError


@dataclasses.dataclass
class Pot(Generic[T]):
    content: T


@dataclasses.dataclass
class Seeded:
    seed: dataclasses.InitVar[int]


@pydantic.dataclasses.dataclass
class Checked:
    x: int = Field(gt=0)


class Record(msgspec.Struct):
    x: int
    y: float = 0.0


class SubRecord(Record):
    z: int = 0


class Tagged(msgspec.Struct, tag="t"):
    x: int


@dataclasses.dataclass
class HoldsRecord:
    record: Record
    names: dict[str, Record] = dataclasses.field(default_factory=dict[str, Record])


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    record: list[Record]


class RecordOfModel(msgspec.Struct):
    money: Money


class Unknown:
    pass


class Opaque:
    """pydantic takes it as it is told; it has no ``__eq__``."""

    def __init__(self, x: int) -> None:
        self.x = x

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.int_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.write),
        )

    @classmethod
    def read(cls, x: int) -> Opaque:
        return cls(abs(x))

    @staticmethod
    def write(value: Opaque) -> int:
        return value.x


Recursive = TypeAliasType("Recursive", "list[Recursive] | int")
