"""Settings, and what is said when the broker cannot be used. No broker is needed."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from pydantic import ValidationError

from infinitic.config import load
from infinitic.errors import ConfigurationError, MissingDriverError, TransportError
from infinitic.plugins import load_transport_plugin
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport, configuration
from infinitic_transports.pulsar.settings import Token
from tests.integration.pulsar.helpers import message, shared


@pytest.mark.parametrize(
    "wrong",
    [
        {"broker_service_url": "http://localhost"},
        {"web_service_url": "localhost:8080"},
        {"tenant": "a/b"},
        {"partitions": 0},
        {"authentication": {"type": "token"}},
        {"authentication": {"type": "token", "token": "a", "token_file": "b"}},
        {"policies": {"ttl_seconds": 60}},
        {"producer": {"chunking": True}},
        {"consumer": {"receiver_queue_size": 0}},
        {"web_service_url": "http://me:mine@localhost:8080"},
        {"broker_service_url": "pulsar://me:mine@localhost"},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PulsarSettings.model_validate(wrong)


@pytest.mark.parametrize(
    "how",
    [
        {"type": "token", "token": "a"},
        {"type": "basic", "username": "a", "password": "b"},
        {"type": "oauth2", "issuer_url": "https://issuer", "private_key": "file:///key.json", "audience": "a"},
        {"type": "tls", "certificate": "cert.pem", "private_key": "key.pem"},
        {
            "type": "athenz",
            "tenant_domain": "a",
            "tenant_service": "b",
            "provider_domain": "c",
            "private_key": "file:///key.pem",
            "zts_url": "https://zts",
        },
    ],
)
def test_every_way_to_authenticate_makes_a_client(how: dict[str, Any]) -> None:
    settings = PulsarSettings.model_validate({"broker_service_url": "pulsar://127.0.0.1:1", "authentication": how})

    async def test() -> None:
        async with PulsarTransport(settings):
            made = configuration.make_client_configuration(importlib.import_module("_pulsar"), settings)
            assert made.authentication is not None

    asyncio.run(test())
    assert "a" not in repr(settings.authentication).partition("token=")[2][:3]


SECRET = "hunter2hunter2"
DATA_URL = "data:application/json;base64," + b64encode(f'{{"client_secret": "{SECRET}"}}'.encode()).decode()
OAUTH2 = {"type": "oauth2", "issuer_url": "https://issuer"}
ATHENZ = {"type": "athenz", "tenant_domain": "a", "tenant_service": "b", "provider_domain": "c", "zts_url": "https://z"}


@pytest.mark.parametrize(
    "how",
    [
        {"type": "token", "token": SECRET},
        {"type": "basic", "username": "a", "password": SECRET},
        OAUTH2 | {"private_key": DATA_URL},
        OAUTH2 | {"private_key": f'{{"client_secret": "{SECRET}"}}'},
        OAUTH2 | {"private_key": f'{{"client_secret": "{SECRET}'},
        OAUTH2 | {"private_key": f"data:,{SECRET}"},
        OAUTH2 | {"private_key": DATA_URL, "issuer_url": f"https://me:{SECRET}@issuer"},
        OAUTH2 | {"private_key": DATA_URL, "more": SECRET},
        OAUTH2 | {"private_key": [SECRET]},
        ATHENZ | {"private_key": f"data:application/x-pem-file;base64,{SECRET}"},
        ATHENZ | {"private_key": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}"},
    ],
)
def test_no_secret_is_shown(how: dict[str, Any]) -> None:
    """Not by `repr`, `str` or JSON of an object that holds it, nor by early errors."""
    shown: list[str] = []
    try:
        settings = PulsarSettings.model_validate(
            {
                "broker_service_url": "pulsar://127.0.0.1:1",
                "web_service_url": "http://127.0.0.1:1",
                "authentication": how,
            }
        )
    except ValidationError as error:
        shown += [str(error), repr(error)]
    else:
        shown += [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]

        async def test() -> None:
            async with PulsarTransport(settings) as transport:
                shown.append(repr(transport))
                for call in (transport.declare([shared()]), transport.publish(shared(), [message("x")])):
                    with pytest.raises((TransportError, ConfigurationError)) as raised:
                        await call
                    shown.extend(format_exception(raised.value))

        asyncio.run(test())
    assert shown
    for secret in (SECRET, DATA_URL[40:]):
        assert secret not in "\n".join(shown)


@pytest.mark.parametrize("key", [f'{{"client_id": "me", "client_secret": "{SECRET}"}}', "-----BEGIN KEY-----\nx\n"])
def test_a_key_may_be_the_document_itself(key: str) -> None:
    url = configuration.make_key_url(key)
    assert url.startswith("data:application/")
    assert b64decode(url.partition(",")[2]).decode() == key
    assert configuration.make_key_url("file:///key.json") == "file:///key.json"


def test_a_broker_that_is_not_there_is_unavailable_and_the_message_says_where() -> None:
    settings = PulsarSettings.model_validate(
        {
            "broker_service_url": "pulsar://127.0.0.1:1",
            "web_service_url": "http://127.0.0.1:1",
            "client": {"operation_timeout_seconds": 1},
        }
    )

    async def test() -> None:
        async with asyncio.timeout(20), PulsarTransport(settings) as transport:
            with pytest.raises(TransportUnavailable, match=r"http://127\.0\.0\.1:1.*web_service_url"):
                await transport.declare([shared()])
            with pytest.raises(TransportUnavailable, match=r"pulsar://127\.0\.0\.1:1"):
                await transport.publish(shared(), [message("x")])

    asyncio.run(test())


def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    how = {"type": "token", "token_file": tmp_path / "none"}
    settings = PulsarSettings.model_validate({"web_service_url": "http://127.0.0.1:1", "authentication": how})

    async def test() -> None:
        async with PulsarTransport(settings) as transport:
            with pytest.raises(ConfigurationError, match="none"):
                await transport.declare([shared()])

    asyncio.run(test())


def test_a_token_file_in_a_configuration_stays_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "infinitic.yml").write_text(
        "transport: {pulsar: {authentication: {type: token, tokenFile: pulsar.token}}}\n", encoding="utf-8"
    )
    _, settings = load(tmp_path / "infinitic.yml").transport_settings
    assert isinstance(settings, PulsarSettings)
    assert isinstance(settings.authentication, Token)
    assert settings.authentication.token_file == tmp_path / "pulsar.token"


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_pulsar", None)
    with pytest.raises(MissingDriverError, match=r"infinitic\[pulsar\]"):
        PulsarTransport()
    assert issubclass(TransportUnavailable, TransportError)


def test_importing_loads_no_driver() -> None:
    code = "import sys, infinitic_transports.pulsar; assert not {'pulsar', '_pulsar', 'httpx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_is_found_by_its_name() -> None:
    assert load_transport_plugin("pulsar").Settings is PulsarSettings
