"""No secret of a storage shows: not in its settings, not in an error, not in what it is made of."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from infinitic_storages.redis import RedisStorage
from infinitic_storages.redis.settings import RedisSettings
from infinitic_storages.sql.mysql import MysqlStorage
from infinitic_storages.sql.postgres import PostgresStorage
from infinitic_storages.sql.settings import MysqlSettings, PostgresSettings

SECRET = "hunter2-Zq"
SENTINEL = {"master": "main", "hosts": [{"host": "h"}], "password": SECRET}
SETTINGS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (PostgresSettings, {"username": "u", "password": SECRET}),
    (MysqlSettings, {"username": "u", "password": SECRET}),
    (RedisSettings, {"password": SECRET}),
    (RedisSettings, {"url": f"redis://u:{SECRET}@h:6379/0"}),
    (RedisSettings, {"sentinel": SENTINEL, "password": SECRET}),
]
WRONG: list[dict[str, Any]] = [
    {"pool_size": "many"},
    {"nonsense": SECRET},
    {"url": f"http://u:{SECRET}@h"},
    {"url": f"redis://u:{SECRET}@h:port"},
    {"url": f"redis://u:{SECRET}@h/x?y=1#z"},
    {"password": [SECRET]},
    {"sentinel": {"master": "", "password": SECRET}},
    {"sentinel": {**SENTINEL, "password": [SECRET]}},
]


@pytest.mark.parametrize(("model", "given"), SETTINGS)
def test_settings_do_not_show_it(model: type[BaseModel], given: dict[str, Any]) -> None:
    settings = model.model_validate(given)
    shown = [repr(settings), str(settings), f"{settings}", settings.model_dump_json(), repr(settings.model_dump())]
    assert not [each for each in shown if SECRET in each]
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings


@pytest.mark.parametrize(("model", "given"), SETTINGS)
@pytest.mark.parametrize("wrong", WRONG)
def test_errors_of_settings_do_not_show_it(
    model: type[BaseModel], given: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({**given, **wrong})
    error = caught.value
    shown = [str(error), repr(error), "".join(traceback.format_exception(error))]
    assert not [each for each in shown if SECRET in each]


@pytest.mark.parametrize(("model", "given"), SETTINGS)
def test_what_a_storage_is_made_of_does_not_show_it(model: type[BaseModel], given: dict[str, Any]) -> None:
    made: dict[type[BaseModel], Any] = {
        PostgresSettings: PostgresStorage,
        MysqlSettings: MysqlStorage,
        RedisSettings: RedisStorage,
    }
    storage = made[model](model.model_validate(given))
    seen: dict[int, object] = {}
    _walk(storage, seen)
    assert len(seen) > 5
    shown = [text for each in seen.values() if SECRET in (text := f"{each!r} {each}")]
    assert not shown, shown[:3]


def _walk(thing: object, seen: dict[int, object]) -> None:
    """Everything of ours that a storage holds, and what a driver's objects say of themselves."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    if not type(thing).__module__.startswith("infinitic_storages"):
        return
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    for name in [*vars(thing)] if hasattr(thing, "__dict__") else slots:
        _walk(getattr(thing, name, None), seen)
