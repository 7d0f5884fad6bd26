"""The configuration file: the exact message of each mistake, variables, secrets and overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from infinitic import UsageError
from infinitic.config import Config, load
from infinitic.errors import ConfigurationError
from infinitic_transports.pulsar import PulsarSettings

MINIMAL = "transport: {in_memory: {}}\n"


def mistakes(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text=text, environ=environ or {})
    return str(caught.value).splitlines()


def read(text: str, **environ: str) -> Config:
    return load(text=text, environ=environ)


def pulsar(config: Config) -> PulsarSettings:
    name, settings = config.transport_settings
    assert name == "pulsar"
    assert isinstance(settings, PulsarSettings)
    return settings


def test_defaults() -> None:
    config = read(MINIMAL)
    assert config.transport_settings[0] == "in_memory"
    assert (config.storage_settings, config.make_storage()) == (None, None)
    document = config.document
    assert (document.name, document.deduplication_window_seconds, document.services, document.workflows) == (
        None,
        14 * 86_400,
        (),
        (),
    )
    assert document.transport.shutdown_grace_period_seconds == 30


SERVICE = MINIMAL + "services:\n  - name: S\n    executor: "
WORKFLOW = MINIMAL + "workflows:\n  - name: W\n    executor: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "<text>:1: the file is empty"),
        ("# nothing\n", "<text>:1: the file is empty"),
        ("null\n", "<text>:1: the file is empty"),
        ("\n- a\n", "<text>:2: the file must be a mapping of keys"),
        ("name: a\n  b: c\n", "<text>:2: not YAML: mapping values are not allowed here"),
        (MINIMAL + "name: !!python/object:os.x {}\n", None),
        ("name: a\n", "<text>:1: transport: is missing"),
        ("name: a\nname: b\n" + MINIMAL, "<text>:2: name: this key is given twice, first in line 1"),
        (MINIMAL + "nmae: a\n", "<text>:2: nmae: unknown key (did you mean 'name'?)"),
        (
            "transport:\n  pulsar:\n    tenat: a\n",
            "<text>:3: transport.pulsar.tenat: unknown key (did you mean 'tenant'?)",
        ),
        (
            "transport:\n  pulsar: {}\n  in_memory: {}\n",
            "<text>:1: transport: must have only one transport, got pulsar and in_memory",
        ),
        ("transport:\n  pulsar: 3\n", "<text>:2: transport.pulsar: must be a mapping of keys"),
        ("transport:\n  pulsr: {}\n", "<text>:2: transport.pulsr: unknown key (did you mean 'pulsar'?)"),
        (
            "transport: {in_memory: {}, shutdown_grace_period_seconds: soon}\n",
            "<text>:1: transport.shutdown_grace_period_seconds: must be a valid number, "
            "unable to parse string as a number, got 'soon'",
        ),
        (
            MINIMAL + "storage: {in_memory: {}, compression: bzip2}\n",
            "<text>:2: storage.compression: must be 'none', 'gzip' or 'zstd', got 'bzip2'",
        ),
        (
            MINIMAL + "deduplication_window_seconds: -1\n",
            "<text>:2: deduplication_window_seconds: must be greater than 0, got -1",
        ),
        (
            MINIMAL + "deduplication_window_seconds: .inf\n",
            "<text>:2: deduplication_window_seconds: must be a finite number, got inf",
        ),
        (
            MINIMAL + "deduplication_window_seconds: true\n",
            "<text>:2: deduplication_window_seconds: must be a number, got true",
        ),
        (MINIMAL + "name: 7\n", "<text>:2: name: must be a valid string, got 7"),
        (MINIMAL + "services: {}\n", "<text>:2: services: must be a list"),
        (MINIMAL + "services:\n  - S\n", "<text>:3: services[0]: must be a mapping of keys"),
        (MINIMAL + "services:\n  - name: S\n", "<text>:3: services[0]: give executor, tag_engine or both"),
        (SERVICE + "{}\n", "<text>:4: services[0].executor: give either class or factory"),
        (SERVICE + "{clas: a.B}\n", "<text>:4: services[0].executor.clas: unknown key (did you mean 'class'?)"),
        (
            SERVICE + "{class: a.B, concurrency: 0}\n",
            "<text>:4: services[0].executor.concurrency: must be greater than or equal to 1, got 0",
        ),
        (
            SERVICE + "{class: a.B, max_per_second: 0}\n",
            "<text>:4: services[0].executor.max_per_second: must be greater than 0, got 0",
        ),
        (
            SERVICE + "{class: a.B, attempt_timeout_seconds: 0}\n",
            "<text>:4: services[0].executor.attempt_timeout_seconds: must be greater than 0, got 0",
        ),
        (
            SERVICE + "{class: a.B, retry: {random_factor: 3}}\n",
            "<text>:4: services[0].executor.retry: random_factor 3.0 is not between 0 and 1",
        ),
        (
            SERVICE + "{class: a.B}\n    tag_engine: {concurrency: 0}\n",
            "<text>:5: services[0].tag_engine.concurrency: must be greater than or equal to 1, got 0",
        ),
        (
            SERVICE + "{class: a.B}\n  - name: S\n    executor: {class: a.C}\n",
            "<text>:5: services[1].name: the name 'S' is given twice",
        ),
        (
            SERVICE + "{class: a.B, batch: {maxMessages: 10001}}\n",
            "<text>:4: services[0].executor.batch.maxMessages: must be less than or equal to 10000, got 10001",
        ),
        (
            WORKFLOW + "{class: a.B, timeoutSeconds: 3}\n",
            "<text>:4: workflows[0].executor.timeoutSeconds: has no equivalent here: workflow code has no timeout",
        ),
        (
            MINIMAL + "workflows:\n  - name: W\n",
            "<text>:3: workflows[0]: give executor, state_engine, tag_engine or several of them",
        ),
        (
            MINIMAL + "eventListener: {class: a.B, concurrency: 2}\n",
            "<text>:2: eventListener.concurrency: has no equivalent here: batches are handed over one after the other",
        ),
        (MINIMAL + "name: ${WHO}\n", "<text>:2: name: the environment variable WHO is not set"),
        (
            MINIMAL + "name: ${-x}\n",
            "<text>:2: name: after '${', the name of a variable and '}' must follow; write '$${' for the text '${'",
        ),
        ("transport: {inMemory: {}, in_memory: {}}\n", "<text>:1: transport.in_memory: 'in_memory' is given twice"),
        (
            "transport: {pulsar: {authentication: {username: a}}}\n",
            "<text>:1: transport.pulsar.authentication: must have a type",
        ),
        (MINIMAL + "cache_size: -1\n", "<text>:2: cache_size: must be greater than or equal to 0, got -1"),
        (MINIMAL + "cache_bytes: -1\n", "<text>:2: cache_bytes: must be greater than or equal to 0, got -1"),
        (MINIMAL + "buffer_bytes: 0\n", "<text>:2: buffer_bytes: must be greater than or equal to 1, got 0"),
        (MINIMAL + "buffer_bytes: true\n", "<text>:2: buffer_bytes: must be a number, got true"),
        (MINIMAL + "buffer_bytes: 1.5\n", None),
        (MINIMAL + "buffer_bytes: 16 MiB\n", None),
        (WORKFLOW + "{classes: []}\n", "<text>:4: workflows[0].executor.classes: must have at least 1 item"),
        (MINIMAL + "name: ${A${B}\n", None),
        ("transport: &a {in_memory: *a}\n", "<text>:1: transport.in_memory: this alias stands inside what it names"),
    ],
)
def test_a_mistake(text: str, message: str | None) -> None:
    found = mistakes(text)
    if message is not None:
        assert found == [message]


def test_all_mistakes_are_reported_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "infinitic.yml"
    file.write_text("nmae: a\ntransport:\n  pulsar:\n    tenat: b\n    partitions: 0\nstorage: {}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    first, second, third, fourth = str(caught.value).splitlines()
    assert first == f"{file}:1: nmae: unknown key (did you mean 'name'?)"
    assert second == f"{file}:4: transport.pulsar.tenat: unknown key (did you mean 'tenant'?)"
    assert third == f"{file}:5: transport.pulsar.partitions: must be greater than or equal to 1, got 0"
    assert fourth.startswith(f"{file}:6: storage: must have the name of one storage as a key: in_memory")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "none.yml")
    assert str(caught.value) == f"{tmp_path / 'none.yml'}: cannot be read: No such file or directory"
    with pytest.raises(UsageError, match="either a path or a text"):
        load("a", text="b")


def test_variables() -> None:
    text = "transport: {in_memory: {name: ${A}-${B:-b, c}-${C:-}-$${D}}  # ${NOT_READ}\n"
    config = read(text + "deduplication_window_seconds: ${H}\n", A="1", B="", H="60")
    assert dict(config.transport_settings[1]) == {"name": "1-b, c--${D"}
    assert config.document.deduplication_window_seconds == 60


def test_values_from_the_environment_are_not_shown() -> None:
    assert mistakes(MINIMAL + "deduplication_window_seconds: ${H}\n", {"H": "s3cret"}) == [
        "<text>:2: deduplication_window_seconds: must be a valid number, unable to parse string as a number"
    ]


BASIC = "transport:\n  pulsar:\n    authentication:\n      type: basic\n      username: a\n"


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("12 34\n\n")
    file = tmp_path / "infinitic.yml"
    file.write_text(BASIC + "      password_file: secret\n")
    authentication: Any = pulsar(load(file, environ={})).authentication
    assert authentication.password == SecretStr("12 34\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("password_file: none", "password_file: cannot read the file none: No such file or directory"),
        ("password_file: 3", "password_file: must be the path of a file"),
        ("password: 1234", "password: must be a valid string"),
        ("username_file: x", "username_file: unknown key (did you mean 'username'?)"),
    ],
)
def test_a_mistake_with_a_secret(more: str, message: str) -> None:
    assert f"<text>:6: transport.pulsar.authentication.{message}" in mistakes(BASIC + f"      {more}\n")


def test_a_secret_and_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert mistakes(BASIC + f"      password: y\n      password_file: {secret}\n") == [
        "<text>:7: transport.pulsar.authentication.password_file: 'password' is given twice"
    ]


def test_keys_of_the_jvm_project() -> None:
    config = read(
        """
        transport:
          shutdownGracePeriodSeconds: 5
          pulsar:
            brokerServiceUrl: pulsar://broker:6650
            policies: {retentionTimeMinutes: 7, messageTTLSeconds: 200000, delayedDeliveryTickTimeMillis: 500}
            producer: {batchingMaxPublishDelaySeconds: 0.002}
        services:
          - name: S
            executor: {class: a.B, timeoutSeconds: 3, retry: {maximumRetries: 1}}
        workflows:
          - name: W
            executor: {classes: [a.B], checkMode: strict}
            stateEngine: {concurrency: 3}
        """
    )
    settings = pulsar(config)
    assert settings.broker_service_url == "pulsar://broker:6650"
    kept = settings.policies
    assert (kept.retention_minutes, kept.ttl_seconds, kept.delayed_delivery_tick_seconds) == (7, 200000, 0.5)
    assert settings.producer.batching_max_publish_delay_ms == 2
    assert config.document.transport.shutdown_grace_period_seconds == 5
    executor = config.document.services[0].executor
    assert executor is not None
    assert (executor.attempt_timeout_seconds, executor.retry and executor.retry.maximum_retries) == (3, 1)
    workflow = config.document.workflows[0]
    assert workflow.executor is not None
    assert workflow.state_engine is not None
    assert (workflow.executor.replay_check, workflow.state_engine.concurrency) == ("strict", 3)


def test_one_key_by_two_names() -> None:
    assert mistakes("transport:\n  pulsar:\n    tenant: a\n    Tenant: b\n") == [
        "<text>:4: transport.pulsar.Tenant: 'tenant' is given twice"
    ]


OLD, NEW = "horizon_seconds", "deduplication_window_seconds"
RENAMED = f"this key is called '{NEW}' now: rename it; the old name still works"


@pytest.mark.parametrize("written", [OLD, "horizonSeconds"])
def test_the_earlier_name_of_a_key_is_accepted_with_a_warning(written: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(MINIMAL + f"{written}: 60\n").document.deduplication_window_seconds == 60
    assert caplog.messages == [f"<text>:2: {written}: {RENAMED}"]


def test_the_name_of_a_key_is_accepted_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert read(MINIMAL + f"{NEW}: 60\n").document.deduplication_window_seconds == 60
    assert caplog.messages == []


def test_a_mistake_names_the_key_as_it_was_written() -> None:
    assert mistakes(MINIMAL + f"{OLD}: -1\n") == [f"<text>:2: {OLD}: must be greater than 0, got -1"]
    assert mistakes(MINIMAL + f"{NEW}: 1\n{OLD}: 2\n") == [f"<text>:3: {OLD}: '{NEW}' is given twice"]


@pytest.mark.parametrize("in_the_file", [OLD, NEW])
@pytest.mark.parametrize("variable", [OLD, NEW])
def test_a_variable_overrides_the_key_by_either_name(
    in_the_file: str, variable: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"INFINITIC_{variable.upper()}"
    config = read(MINIMAL + f"{in_the_file}: 60\n", **{name: "70"})
    assert config.document.deduplication_window_seconds == 70
    assert caplog.messages == ([f"{name}: {OLD}: {RENAMED}"] if variable == OLD else [])


def test_variables_by_both_names_are_a_mistake() -> None:
    environ = {f"INFINITIC_{name.upper()}": "70" for name in (OLD, NEW)}
    assert mistakes(MINIMAL, environ) == [f"INFINITIC_HORIZON_SECONDS: {OLD}: '{NEW}' is given twice"]


def test_a_variable_overrides_a_key_in_camel_case() -> None:
    config = read(
        "transport: {pulsar: {brokerServiceUrl: 'pulsar://a'}}\ncacheSize: 3\n",
        INFINITIC_CACHE_SIZE="4",
        INFINITIC_TRANSPORT__PULSAR__BROKER_SERVICE_URL="pulsar://b",
    )
    assert config.document.memory_bounds.cache_size == 4
    assert pulsar(config).broker_service_url == "pulsar://b"


def test_every_key_at_the_top_can_be_overridden() -> None:
    bounds = read(
        MINIMAL, INFINITIC_CACHE_SIZE="3", INFINITIC_CACHE_BYTES="4", INFINITIC_BUFFER_BYTES="5"
    ).document.memory_bounds
    assert tuple(bounds) == (3, 4, 5)


def test_overrides() -> None:
    config = read(
        "transport: {pulsar: {tenant: a, namespace: n}}\nservices: [{name: S, executor: {class: a.B}}]\n",
        INFINITIC_NAME="w",
        INFINITIC_TRANSPORT__PULSAR__TENANT="123",
        INFINITIC_TRANSPORT__PULSAR__CLIENT__IO_THREADS="2",
        INFINITIC_TRANSPORT__PULSAR__ALLOWED_CLUSTERS='["x", "y"]',
        INFINITIC_SERVICES__0__EXECUTOR__CONCURRENCY="7",
        INFINITIC_WORKFLOWS='[{"name": "W", "state_engine": {}}]',
        INFINITIC_STORAGE__IN_MEMORY='{"name": "d"}',
        INFINITIC_CONFIG="another.yml",
        PATH="/bin",
    )
    settings = pulsar(config)
    assert (settings.tenant, settings.namespace, settings.client.io_threads) == ("123", "n", 2)
    assert settings.allowed_clusters == ("x", "y")
    executor = config.document.services[0].executor
    assert executor is not None
    assert (config.document.name, executor.concurrency) == ("w", 7)
    assert [each.name for each in config.document.workflows] == ["W"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("INFINITIC_TRANSPORT__PULSAR__TENAT", "x", "transport.pulsar.tenat: unknown key (did you mean 'tenant'?)"),
        ("INFINITIC_TRANPORT__PULSAR__TENANT", "x", "tranport: unknown key (did you mean 'transport'?)"),
        (
            "INFINITIC_TRANSPORT__PULSAR__PARTITIONS",
            "x",
            "transport.pulsar.partitions: must be a valid integer, unable to parse string as an integer",
        ),
        ("INFINITIC_SERVICES__5", "x", "services: '5' is not the index of an item: the list has 1"),
    ],
)
def test_a_mistake_in_an_override(variable: str, value: str, message: str) -> None:
    text = "transport: {pulsar: {tenant: a}}\nservices: [{name: S, executor: {class: a.B}}]\n"
    assert mistakes(text, {variable: value}) == [f"{variable}: {message}"]
