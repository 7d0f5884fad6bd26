"""A broker that wants to know who comes, with and without TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from infinitic.errors import ConfigurationError, TransportError
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.pulsar.helpers import bodies, collect, keyed, message, shared
from tests.integration.pulsar.secured import HOST, Secured, make_token

PATIENCE = 40.0


def works(settings: PulsarSettings) -> None:
    """Declare, publish at once and later, receive, acknowledge, and count."""

    async def test() -> None:
        async with asyncio.timeout(PATIENCE), PulsarTransport(settings) as transport:
            topic = keyed()
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 10)
            await transport.publish(topic, [message(1, "k"), message(2, "k")])
            assert bodies(await collect(consumer, 2)) == ["1", "2"]
            assert set((await transport.stats(topic)).subscriptions) == {"main"}
            await consumer.close()

    asyncio.run(test())


def refusal(settings: PulsarSettings) -> tuple[str, str]:
    """What REST and the brokers tell a client without permission: the texts of two errors."""

    async def test() -> tuple[str, str]:
        async with asyncio.timeout(PATIENCE), PulsarTransport(settings) as transport:
            topic = shared()
            texts: list[str] = []
            for call in (transport.declare([topic]), transport.publish(topic, [message("x")])):
                with pytest.raises((TransportError, ConfigurationError)) as raised:
                    await call
                if not texts:
                    assert not isinstance(raised.value, TransportUnavailable)
                texts.append(str(raised.value))
            return texts[0], texts[1]

    return asyncio.run(test())


def test_a_good_token(secured: Secured) -> None:
    works(secured.settings())


@pytest.mark.parametrize("how", [None, {"type": "token", "token": make_token("admin", b"another key" * 4)}])
def test_a_wrong_token_or_none(secured: Secured, how: dict[str, Any] | None) -> None:
    text, _ = refusal(secured.settings(None, authentication=how, client={"operation_timeout_seconds": 1}))
    assert "401" in text
    assert "check `authentication`" in text
    assert "<" not in text
    assert "\n" not in text


def test_a_role_without_permission(secured: Secured) -> None:
    settings = secured.settings("clerk")

    async def prepare() -> None:
        async with PulsarTransport(secured.settings(namespace=settings.namespace)) as transport:
            await transport.admin.prepare()

    asyncio.run(prepare())
    rest, binary = refusal(settings)
    assert "make it an admin of the tenant 'infinitic'" in rest
    assert "lacks the permission to produce and consume" in binary


def test_a_role_without_permission_on_a_topic_is_not_told_to_look_at_its_token(secured: Secured) -> None:
    async def test() -> None:
        settings = secured.settings("clerk")
        async with PulsarTransport(secured.settings(namespace=settings.namespace)) as transport:
            await transport.admin.prepare()  # where there is no tenant there are no topics
        async with PulsarTransport(settings) as transport:
            with pytest.raises(TransportError, match="make it an admin of the tenant"):
                await transport.stats(shared())

    asyncio.run(test())


def test_an_admin_of_the_tenant_needs_no_more(secured: Secured) -> None:
    tenant = "shop"

    async def prepare() -> None:
        async with PulsarTransport(secured.settings(tenant=tenant)) as transport:
            await transport.admin.make_tenant(["keeper"])

    asyncio.run(prepare())
    works(secured.settings("keeper", tenant=tenant))


def test_a_token_in_a_file_is_read_again(secured: Secured, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(make_token("admin", b"another key" * 4))
    settings = secured.settings(None, authentication={"type": "token", "token_file": file})

    async def test() -> None:
        async with asyncio.timeout(PATIENCE), PulsarTransport(settings) as transport:
            topic = shared()
            with pytest.raises(TransportError, match="401"):
                await transport.declare([topic])
            with pytest.raises(TransportError, match=r"AuthenticationError.*check `authentication`") as raised:
                await transport.publish(topic, [message("x")])
            assert not isinstance(raised.value, TransportUnavailable)
            file.write_text(make_token("admin") + "\n")
            await transport.declare([topic])
            consumer = await transport.subscribe(topic, "main", 1)
            await transport.publish(topic, [message("x")])
            assert bodies(await collect(consumer, 1)) == ["x"]

    asyncio.run(test())


def test_tls(secured: Secured) -> None:
    works(secured.over_tls())


def test_tls_and_a_certificate_of_the_client(secured: Secured) -> None:
    def how(name: str) -> dict[str, Any]:
        files = {"certificate": secured.folder / f"{name}.pem", "private_key": secured.folder / f"{name}-key.pem"}
        return {"type": "tls", **files}

    works(secured.over_tls(role=None, authentication=how("client")))
    rest, binary = refusal(secured.over_tls(role=None, authentication=how("stranger")))
    assert "make it an admin" in rest
    assert "AuthorizationError" in binary
    missing, _ = refusal(secured.over_tls(role=None, authentication=how("missing")))
    assert "missing.pem" in missing


def test_an_authority_that_is_not_trusted(secured: Secured) -> None:
    for text in refusal(secured.over_tls(tls={})):
        assert "is not trusted" in text
        assert "tls.trust_certs" in text
    works(secured.over_tls(tls={"allow_insecure": True}))


def test_an_authority_that_is_missing(secured: Secured) -> None:
    text, _ = refusal(secured.over_tls(tls={"trust_certs": "/none.pem"}))
    assert text.startswith("The certificate /none.pem (tls.trust_certs) cannot be used")


def test_a_certificate_of_another_host(secured: Secured) -> None:
    rest, binary = refusal(secured.over_tls("localhost"))
    assert "the certificate is for another host" in rest
    assert "for another host" in binary
    works(secured.over_tls("localhost", tls={"trust_certs": secured.authority, "validate_hostname": False}))


@pytest.mark.parametrize("encrypted", [True, False])
def test_tls_on_one_side_only(secured: Secured, encrypted: bool) -> None:
    plain = secured.settings(web_service_url=f"http://{HOST}:{secured.web_tls}")
    settings = secured.over_tls(web_service_url=f"https://{HOST}:{secured.web}") if encrypted else plain

    async def test() -> None:
        async with PulsarTransport(settings) as transport:
            with pytest.raises(TransportError, match="one side uses TLS") as raised:
                await transport.declare([shared()])
            assert not isinstance(raised.value, TransportUnavailable)

    asyncio.run(test())
