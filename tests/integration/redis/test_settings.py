"""Settings that cannot work, and a driver that is not there."""

from __future__ import annotations

import sys

import pytest
from pydantic import SecretStr, ValidationError

from infinitic.errors import MissingDriverError
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.integration.module_cache import forget_modules


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": "http://x"}, "has to begin with redis://"),
        ({"url": "redis://:secret@host:port"}, "is the port a number"),
        ({"url": "redis://host/name"}, "number of the database"),
        ({"url": "redis://host", "port": 1}, "either url or port"),
        ({"sentinel": {"master": "m", "hosts": [{"host": "h"}]}, "host": "x"}, "either sentinel or host"),
        ({"key_prefix": "a|b"}, "key_prefix"),
    ],
)
def test_settings_that_cannot_work(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text) as caught:
        RedisSettings.model_validate(fields)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        RedisSettings(host="h", username="u", password=SecretStr("secret"), database=3),
        RedisSettings(url=SecretStr("redis://u:secret@h:6379/3")),
    ],
)
def test_an_address_does_not_show_its_password(settings: RedisSettings) -> None:
    address = settings.address
    assert address.password == "secret"
    assert repr(address) == f"{address!r}" == "Address(h:6379, username='u', database=3, tls=False)"
    assert "secret" not in f"{address}{settings!r}{[address]}"


def test_without_its_driver_the_settings_work_and_the_storage_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_modules(monkeypatch, "infinitic_storages.redis")
    for name in [name for name in sys.modules if name == "redis" or name.startswith("redis.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDriverError, match=r"The storage 'redis' needs .*pip install \"infinitic\[redis\]\""):
        RedisStorage(RedisSettings())
