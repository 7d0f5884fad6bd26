"""OAuth 2.0 towards REST, with a provider of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from infinitic.errors import ConfigurationError, TransportError
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.helpers import shared


class Provider(BaseHTTPRequestHandler):
    """Gives tokens, and is the REST interface that demands them; it has no statistics."""

    status = 200
    asked = 0

    def do_GET(self) -> None:
        if self.path == "/.well-known/openid-configuration":
            self._answer(200, {"token_endpoint": f"http://{self.headers['Host']}/token"})
        else:
            self._answer(404 if self.headers["Authorization"] == "Bearer secret" else 401, {"reason": "who?"})

    def do_POST(self) -> None:
        type(self).asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert "grant_type=client_credentials" in body
        assert "client_id=me" in body
        assert "audience=pulsar" in body
        good = {"access_token": "secret", "expires_in": 3600}
        self._answer(self.status, good if self.status == 200 else {"error": "invalid_client"})

    def _answer(self, status: int, document: object) -> None:
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Provider, "status", 200)
    monkeypatch.setattr(Provider, "asked", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def stats(url: str, key: Path, times: int = 1, issuer: str | None = None) -> None:
    how = {"type": "oauth2", "issuer_url": issuer or url, "private_key": str(key), "audience": "pulsar"}
    settings = PulsarSettings.model_validate({"web_service_url": url, "authentication": how})

    async def test() -> None:
        async with asyncio.timeout(30), PulsarTransport(settings) as transport:
            for _ in range(times):
                assert not (await transport.stats(shared())).subscriptions

    asyncio.run(test())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_id": "me", "client_secret": "mine"}), encoding="utf-8")
    return file


def test_one_token_for_many_calls(provider: str, key: Path) -> None:
    stats(provider, key, times=3)
    assert Provider.asked == 1


def test_a_provider_that_refuses_is_no_outage(provider: str, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Provider, "status", 401)
    with pytest.raises(TransportError, match=r"provider of OAuth 2\.0.*401.*private_key") as raised:
        stats(provider, key)
    assert not isinstance(raised.value, TransportUnavailable)


def test_a_provider_that_fails_is_an_outage(provider: str, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Provider, "status", 503)
    with pytest.raises(TransportUnavailable, match=r"provider of OAuth 2\.0.*503"):
        stats(provider, key)


def test_a_provider_that_is_away(provider: str, key: Path) -> None:
    with pytest.raises(TransportUnavailable):
        stats(provider, key, issuer="http://127.0.0.1:1")


def test_credentials_that_lack_something(provider: str, key: Path) -> None:
    key.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="client_secret"):
        stats(provider, key)
