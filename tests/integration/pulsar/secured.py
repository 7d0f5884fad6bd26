"""A broker of the tests' own that demands tokens or client certificates, on plain and on TLS ports."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinitic.ids import new_id
from infinitic_transports.pulsar import PulsarSettings
from tests.integration.stack import need
from tests.required import absent

HOST = "127.0.0.1"
START_SECONDS = 300
MAX_MESSAGE_SIZE = 1_000_000
"""Bytes that it takes, less than the settings say."""

SERVICES = Path(__file__).parents[3] / "services"
_KEY = b"a secret of the tests, of more than 32 bytes"
_PROVIDERS = "org.apache.pulsar.broker.authentication.AuthenticationProvider"


def token(role: str, key: bytes = _KEY) -> str:
    """A JSON Web Token (HS256) of a role."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256"}, {"sub": role}))
    return f"{text}.{part(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


@dataclass(frozen=True)
class Secured:
    """The broker. `admin` is the role of its super-user. It takes messages of `max_message_size` bytes at most."""

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

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Within this it neither answers nor goes away."""
        pid = int((self.folder / "var/pulsar/pid").read_text(encoding="utf-8"))
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def fields(self, role: str | None = "admin", **more: Any) -> dict[str, Any]:
        """Settings without TLS, with the token of a role; a namespace of its own unless one is given."""
        how = {} if role is None else {"authentication": {"type": "token", "token": token(role)}}
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


def certificate(folder: Path, name: str, subject: str, alternative: str | None = None) -> None:
    """A key and a certificate, signed by the authority (which signs itself)."""
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


def _ports(number: int) -> list[int]:
    """Ports that are free, held at the same time so that they differ."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in held:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in held]


@contextmanager
def broker(folder: Path) -> Generator[Secured]:
    """Start it, and remove it with its data. Skips where nobody has started servers: nobody wants this one then."""
    need()
    for command in ("java", "openssl", "curl"):
        if shutil.which(command) is None:
            absent(f"There is no {command}, which a broker of the tests' own needs")
    if not (SERVICES / "var/pulsar/jars/pom.xml").exists():
        absent("The jars of Pulsar are not there: make services")
    port, web, bookie, tls, web_tls = _ports(5)
    certificate(folder, "ca", "Authority of tests")
    certificate(folder, "server", "broker", f"IP:{HOST}")
    certificate(folder, "client", "admin")
    certificate(folder, "stranger", "stranger")
    settings = folder / "extra.conf"
    secret = base64.b64encode(_KEY).decode()
    settings.write_text(
        "\n".join(
            (
                f"brokerServicePortTls={tls}",
                f"webServicePortTls={web_tls}",
                f"tlsCertificateFilePath={folder / 'server.pem'}",
                f"tlsKeyFilePath={folder / 'server-key.pem'}",
                f"tlsTrustCertsFilePath={folder / 'ca.pem'}",
                "authenticationEnabled=true",
                f"authenticationProviders={_PROVIDERS}Token,{_PROVIDERS}Tls",
                "authorizationEnabled=true",
                "superUserRoles=admin",
                f"tokenSecretKey=data:;base64,{secret}",
                "brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken",
                f"brokerClientAuthenticationParameters=token:{token('admin')}",
                "managedLedgerNewEntriesCheckDelayInMillis=10",
                "managedLedgerMaxUnackedRangesToPersist=10000",
                f"maxMessageSize={MAX_MESSAGE_SIZE}",
                "",
            )
        ),
        encoding="utf-8",
    )
    environ = os.environ | {
        "SERVICES_DIR": str(folder / "var"),
        "START_TIMEOUT": str(START_SECONDS),
        "PULSAR_PORT": str(port),
        "PULSAR_WEB_PORT": str(web),
        "PULSAR_BOOKIE_PORT": str(bookie),
        "PULSAR_EXTRA_CONF": str(settings),
        "PULSAR_JVM_ARGS": "-Xmx512m",
        "PULSAR_ADMIN_ARGS": f"--oauth2-bearer {token('admin')}",
    }

    def verb(name: str) -> None:
        done = subprocess.run(
            [str(SERVICES / "pulsar.sh"), name],
            env=environ, capture_output=True, text=True, timeout=START_SECONDS + 30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        verb("start")
        yield Secured(folder, port, web, tls, web_tls)
    finally:
        verb("kill")
        verb("wipe")
