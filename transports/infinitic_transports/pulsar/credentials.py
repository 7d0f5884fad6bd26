"""Who the client says it is, towards REST. The client library has its own way towards brokers."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from infinitic.clock import Clock, SystemClock
from infinitic.errors import ConfigurationError
from infinitic_transports.pulsar.settings import Basic, ClientCertificate, OAuth2, PulsarSettings, Token

if TYPE_CHECKING:
    import httpx

_EARLY = 60.0
"""Seconds before its end that a token of OAuth 2.0 is replaced."""


class Credentials:
    """Headers and TLS for REST calls."""

    def __init__(self, settings: PulsarSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._bearer = ""
        self._until = 0.0

    def ssl(self) -> ssl.SSLContext | bool:
        """What is trusted, and the client's certificate if it has one."""
        if not self._settings.web_service_url.startswith("https:"):
            return True
        tls, how = self._settings.tls, self._settings.authentication
        context = ssl.create_default_context(cafile=str(tls.trust_certs) if tls.trust_certs else None)
        context.check_hostname = tls.validate_hostname and not tls.allow_insecure
        if tls.allow_insecure:
            context.verify_mode = ssl.CERT_NONE
        if isinstance(how, ClientCertificate):
            context.load_cert_chain(str(how.certificate), str(how.private_key))
        return context

    async def headers(self, client: httpx.AsyncClient) -> dict[str, str]:
        """The headers of one call. A token in a file is read anew."""
        match self._settings.authentication:
            case Token(token=token, token_file=file):
                text = token.get_secret_value() if token is not None else _read(file)
                return {"Authorization": f"Bearer {text}"}
            case Basic(username=username, password=password):
                pair = base64.b64encode(f"{username}:{password.get_secret_value()}".encode()).decode()
                return {"Authorization": f"Basic {pair}"}
            case OAuth2() as how:
                return {"Authorization": f"Bearer {await self._oauth2(client, how)}"}
            case _:
                return {}

    async def _oauth2(self, client: httpx.AsyncClient, how: OAuth2) -> str:
        if self._clock.now() < self._until - _EARLY:
            return self._bearer
        key = _json(how.private_key)
        issuer = how.issuer_url.rstrip("/")
        found = await client.get(f"{issuer}/.well-known/openid-configuration")
        asked = {
            "grant_type": "client_credentials",
            "client_id": str(key["client_id"]),
            "client_secret": str(key["client_secret"]),
            **({"audience": how.audience} if how.audience else {}),
            **({"scope": how.scope} if how.scope else {}),
        }
        answer = await client.post(str(found.raise_for_status().json()["token_endpoint"]), data=asked)
        body = answer.raise_for_status().json()
        self._bearer = str(body["access_token"])
        self._until = self._clock.now() + float(body.get("expires_in", 300))
        return self._bearer


def _read(file: Path | None) -> str:
    assert file is not None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"The token of Pulsar cannot be read from {file}: {error}") from error


def _json(where: str) -> dict[str, Any]:
    """The JSON of a credentials file: a path, or a `file:` or `data:` URL, as the client library takes them."""
    try:
        if where.startswith("data:"):
            return dict(json.loads(base64.b64decode(where.partition(",")[2])))
        path = unquote(urlsplit(where).path) if where.startswith("file:") else where
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The credentials of OAuth 2.0 cannot be read from {where[:80]}: {error}") from error
