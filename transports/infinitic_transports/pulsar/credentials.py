"""The credentials of this client for REST. The client library has its own for the brokers."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from infinitic.clock import Clock, SystemClock
from infinitic.errors import ConfigurationError, TransportError
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar.errors import extract_reason
from infinitic_transports.pulsar.handshake import Identity
from infinitic_transports.pulsar.settings import Basic, ClientCertificate, OAuth2, PulsarSettings, Token

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_EARLY = 60.0
"""Seconds before the end of a token of OAuth 2.0, at which it is replaced."""


class Credentials:
    """Makes headers and TLS contexts for REST calls.

    Args:
        settings: the credentials.
        clock: tells when a token of OAuth 2.0 ends.
    """

    def __init__(self, settings: PulsarSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._bearer = ""
        self._until = 0.0

    def make_ssl_context(self) -> ssl.SSLContext:
        """Make a TLS context: what is trusted, and the certificate of the client if it has one.

        Raises:
            ConfigurationError: a certificate cannot be read.
        """
        tls, how = self._settings.tls, self._settings.authentication
        # The client library trusts the same certificates.
        trusted = tls.trust_certs or Path(import_module("certifi").where())
        context = _load_certificate(trusted, "tls.trust_certs", lambda file: ssl.create_default_context(cafile=file))
        context.check_hostname = tls.validate_hostname and not tls.allow_insecure
        if tls.allow_insecure:
            context.verify_mode = ssl.CERT_NONE
        if isinstance(how, ClientCertificate):
            key = str(how.private_key)
            what = f"authentication with {key}"
            _load_certificate(how.certificate, what, lambda file: context.load_cert_chain(file, key))
        return context

    async def make_headers(self, client: httpx.AsyncClient) -> dict[str, str]:
        """Make the headers of one call. A token in a file is read each time."""
        match self._settings.authentication:
            case Token(token=token, token_file=file):
                text = token.get_secret_value() if token is not None else _read_token(file)
                return {"Authorization": f"Bearer {text}"}
            case Basic(username=username, password=password):
                pair = base64.b64encode(f"{username}:{password.get_secret_value()}".encode()).decode()
                return {"Authorization": f"Basic {pair}"}
            case OAuth2() as how:
                return {"Authorization": f"Bearer {await self._fetch_token(client, how)}"}
            case _:
                return {}

    async def make_identity(self, client: httpx.AsyncClient) -> Identity:
        """Make the credentials for the binary port. Only the client library knows Athenz."""
        match self._settings.authentication:
            case Token() | OAuth2():
                bearer = (await self.make_headers(client))["Authorization"]
                return Identity("token", bearer.removeprefix("Bearer ").encode())
            case Basic(username=username, password=password):
                return Identity("basic", f"{username}:{password.get_secret_value()}".encode())
            case ClientCertificate():
                return Identity("tls")
            case _:
                return Identity()

    async def _fetch_token(self, client: httpx.AsyncClient, how: OAuth2) -> str:
        if self._clock.now() < self._until - _EARLY:
            return self._bearer
        key = _read_key(how.private_key.get_secret_value())
        if not {"client_id", "client_secret"} <= set(key):
            named = _describe(how.private_key.get_secret_value())
            raise ConfigurationError(f"{named} lacks the client_id or client_secret of OAuth 2.0")
        issuer = how.issuer_url.rstrip("/")
        asked = {
            "grant_type": "client_credentials",
            "client_id": str(key["client_id"]),
            "client_secret": str(key["client_secret"]),
            **({"audience": how.audience} if how.audience else {}),
            **({"scope": how.scope} if how.scope else {}),
        }
        found = _parse_document(await client.get(f"{issuer}/.well-known/openid-configuration"), "token_endpoint")
        body = _parse_document(await client.post(str(found["token_endpoint"]), data=asked), "access_token")
        self._bearer = str(body["access_token"])
        self._until = self._clock.now() + float(body.get("expires_in", 300))
        return self._bearer


def _parse_document(answer: httpx.Response, key: str) -> dict[str, Any]:
    """The answer of a provider of OAuth 2.0, as an object that has this key."""
    text = f"The provider of OAuth 2.0 at {answer.url} gave {answer.status_code}: {extract_reason(answer.text)}"
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise TransportUnavailable(text)
    try:
        body = dict(answer.json())
    except (ValueError, TypeError):
        body = {}
    if answer.status_code != 200 or key not in body:
        raise TransportError(f"{text}: check `authentication`: its issuer_url and private_key")
    return body


def _load_certificate(file: Path, what: str, load: Callable[[str], T]) -> T:
    try:
        return load(str(file))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The certificate {file} ({what}) cannot be used: {error}") from error


def _read_token(file: Path | None) -> str:
    assert file is not None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"The token of Pulsar cannot be read from {file}: {error}") from error


def _read_key(where: str) -> dict[str, Any]:
    """Read a file of credentials.

    Args:
        where: a path, a `file:` or `data:` URL, as the client library takes them, or the document
            itself.
    """
    try:
        if where.lstrip().startswith("{"):
            return dict(json.loads(where))
        if where.startswith("data:"):
            return dict(json.loads(base64.b64decode(where.partition(",")[2])))
        path = unquote(urlsplit(where).path) if where.startswith("file:") else where
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"The credentials of OAuth 2.0 cannot be read from {_describe(where)}: {reason}"
        ) from None
    except (ValueError, TypeError) as error:
        # The text of the error may hold parts of the document, which is a secret.
        reason = f"it is not a JSON object ({type(error).__name__})"
        raise ConfigurationError(
            f"The credentials of OAuth 2.0 cannot be read from {_describe(where)}: {reason}"
        ) from None


def _describe(where: str) -> str:
    """The name of a file. What is not a name is the secret itself, and is not shown."""
    if where.startswith("data:"):
        return "the data: URL of `private_key`"
    if "{" in where or "\n" in where or len(where) > 500:
        return "the text of `private_key`"
    return where
