"""A broker of the tests' own.

It demands tokens or client certificates, on plain ports and on TLS ports.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.servers import PrivatePulsar, find_free_ports
from infinitic.ids import new_id
from infinitic_transports.pulsar import PulsarSettings
from tests.integration.private import private_pulsar
from tests.integration.stack import need
from tests.required import absent

HOST = "127.0.0.1"
START_SECONDS = 300
MAX_MESSAGE_SIZE = 1_000_000
"""Bytes of a message that it takes: less than the settings say."""

_KEY = b"a secret of the tests, of more than 32 bytes"
_PROVIDERS = "org.apache.pulsar.broker.authentication.AuthenticationProvider"


def make_token(role: str, key: bytes = _KEY) -> str:
    """Make a JSON Web Token (HS256) for a role."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256"}, {"sub": role}))
    return f"{text}.{part(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


@dataclass(frozen=True)
class Secured:
    """The broker.

    Attributes:
        server: its process.
        folder: where its certificates and data are.
        port, web: its ports without TLS.
        tls, web_tls: its ports with TLS.
        admin: the role of its super-user.
        max_message_size: bytes of a message that it takes.
    """

    server: PrivatePulsar
    folder: Path
    port: int
    web: int
    tls: int
    web_tls: int
    admin: str = "admin"
    max_message_size: int = MAX_MESSAGE_SIZE

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def fields(self, role: str | None = "admin", **more: Any) -> dict[str, Any]:
        """Settings without TLS, with the token of a role, and a new namespace by default."""
        how = {} if role is None else {"authentication": {"type": "token", "token": make_token(role)}}
        return {
            "broker_service_url": f"pulsar://{HOST}:{self.port}",
            "web_service_url": f"http://{HOST}:{self.web}",
            "namespace": f"test-{new_id()[:12]}",
            "client": {"operation_timeout_seconds": 10},
            **how,
            **more,
        }

    def settings(self, role: str | None = "admin", **more: Any) -> PulsarSettings:
        return PulsarSettings.model_validate(self.fields(role, **more))

    def over_tls(self, host: str = HOST, role: str | None = "admin", **more: Any) -> PulsarSettings:
        """Settings with TLS. They trust the authority of the tests unless `tls` is given."""
        urls = {
            "broker_service_url": f"pulsar+ssl://{host}:{self.tls}",
            "web_service_url": f"https://{host}:{self.web_tls}",
            "tls": {"trust_certs": self.authority},
        }
        return self.settings(role, **(urls | more))


def make_certificate(folder: Path, name: str, subject: str, alternative: str | None = None) -> None:
    """Make a key and a certificate, signed by the authority. The authority signs itself."""
    key, request, signed = folder / f"{name}-key.pem", folder / f"{name}.csr", folder / f"{name}.pem"
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-subj", f"/CN={subject}"]
    if name == "ca":
        _run(*new, "-x509", "-days", "2", "-out", str(signed))
        return
    _run(*new, "-out", str(request))
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName = {alternative}\n" if alternative else "", encoding="utf-8")
    by = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca-key.pem"), "-CAcreateserial"]
    _run("openssl", "x509", "-req", "-in", str(request), *by, "-days", "2", "-out", str(signed), "-extfile",
         str(extensions))  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def broker(folder: Path) -> Generator[Secured]:
    """Start the broker, and remove it with its data at the end.

    It skips where nobody has started servers: nobody wants this one there.
    """
    need()
    for command in ("openssl", "curl"):
        if shutil.which(command) is None:
            absent(f"There is no {command}, which the broker of the tests needs")
    tls, web_tls = find_free_ports(2)
    make_certificate(folder, "ca", "Authority of tests")
    make_certificate(folder, "server", "broker", f"IP:{HOST}")
    make_certificate(folder, "client", "admin")
    make_certificate(folder, "stranger", "stranger")
    settings = folder / "extra.conf"
    server = private_pulsar(
        folder / "var",
        PULSAR_EXTRA_CONF=str(settings),
        PULSAR_JVM_ARGS="-Xmx512m",
        PULSAR_ADMIN_ARGS=f"--oauth2-bearer {make_token('admin')}",
        START_TIMEOUT=str(START_SECONDS),
    )
    settings.write_text(_configuration(folder, tls, web_tls), encoding="utf-8")
    try:
        server.do("start")
        yield Secured(server, folder, server.ports["PULSAR_PORT"], server.ports["PULSAR_WEB_PORT"], tls, web_tls)
    finally:
        server.end()


def _configuration(folder: Path, tls: int, web_tls: int) -> str:
    lines = (
        f"brokerServicePortTls={tls}",
        f"webServicePortTls={web_tls}",
        f"tlsCertificateFilePath={folder / 'server.pem'}",
        f"tlsKeyFilePath={folder / 'server-key.pem'}",
        f"tlsTrustCertsFilePath={folder / 'ca.pem'}",
        "authenticationEnabled=true",
        f"authenticationProviders={_PROVIDERS}Token,{_PROVIDERS}Tls",
        "authorizationEnabled=true",
        "superUserRoles=admin",
        f"tokenSecretKey=data:;base64,{base64.b64encode(_KEY).decode()}",
        "brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken",
        f"brokerClientAuthenticationParameters=token:{make_token('admin')}",
        "managedLedgerNewEntriesCheckDelayInMillis=10",
        "managedLedgerMaxUnackedRangesToPersist=10000",
        f"maxMessageSize={MAX_MESSAGE_SIZE}",
    )
    return "\n".join(lines) + "\n"
