"""What a bad file cannot do: take long, raise anything but its own error, or show a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infinitic.config import load, yaml_nodes
from infinitic.config.nodes import Node
from infinitic.config.problems import MAX_PROBLEMS
from infinitic.errors import ConfigurationError

MINIMAL = "transport: {in_memory: {}}\n"


def mistakes(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text=text, environ=environ)
    assert caught.value.__cause__ is None
    return str(caught.value).splitlines()


TAG = "has a tag that is not allowed here: put a text that begins with '!' in quotes"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!bool x", "is not a truth value"),
        ("!!int ''", "is not a whole number"),
        ("!!float x", "is not a number"),
        ("!!binary x", TAG),
        ("!secret x", TAG),
        ("!!set {a}", TAG),
        ("!!python/object:os.x {}", TAG),
        ("'" + "n" * 300 + "'", f"a name has 300 bytes of UTF-8, more than 255: '{'n' * 40}'…"),
    ],
)
def test_a_value_that_is_not_allowed(value: str, message: str) -> None:
    assert mistakes(MINIMAL + f"name: {value}\n") == [f"<text>:2: name: {message}"]


@pytest.mark.parametrize("name", ["\ue0005\ue001", "2026-01-31", "=", "!!timestamp x", "!!str 7", '"\\ue0000\\ue001"'])
def test_text_that_looks_like_something_else_is_text(name: str) -> None:
    read = load(text=MINIMAL + f"name: {name}\n", environ={}).document.name
    assert read == {"!!timestamp x": "x", "!!str 7": "7", '"\\ue0000\\ue001"': "\ue0000\ue001"}.get(name, name)


def test_huge_numbers() -> None:
    assert mistakes(MINIMAL + f"deduplication_window_seconds: 0x{'f' * 5000}\n") == [
        "<text>:2: deduplication_window_seconds: must be a valid number, got a huge number"
    ]
    assert mistakes(MINIMAL + f"deduplication_window_seconds: {'9' * 5000}\n") == [
        "<text>:2: deduplication_window_seconds: is not a whole number"
    ]
    policies = f"transport: {{pulsar: {{policies: {{delayedDeliveryTickTimeMillis: {'9' * 400}}}}}}}\n"
    assert "delayedDeliveryTickTimeMillis: " in mistakes(policies)[0]


@pytest.mark.parametrize("opened", ["[", "{a: ", "- ", "? "])
def test_a_text_that_is_nested_too_deep(opened: str) -> None:
    assert mistakes(MINIMAL + "services:\n  " + opened * 3000) == [
        f"<text>:3: not YAML: more than {yaml_nodes.MAX_LEVELS} levels"
    ]


def test_aliases_that_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    found = mistakes(MINIMAL + "a0: &a0 [x]\n" + levels)
    assert any("the file has more than 50,000 values (aliases count each time they are used)" in each for each in found)
    merges = "".join(f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 9)}], k{i}: 1}}\n" for i in range(1, 12))
    assert all("unknown key" in each for each in mistakes(MINIMAL + "b0: &b0 {k: 1}\n" + merges))
    wide = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(5000)) + "}\n"
    many = wide + "b: [" + ", ".join(["{<<: *a}"] * 5000) + "]\n"
    assert any("50,000 values" in each for each in mistakes(MINIMAL + many))


def test_aliases_that_nest() -> None:
    chain = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
    reported = mistakes(MINIMAL + "a0: &a0 [x]\n" + chain)
    assert any(f"the aliases make more than {yaml_nodes.MAX_LEVELS} levels" in each for each in reported)
    assert mistakes(MINIMAL + "name: &a {<<: *a}\n")[0] == "<text>:2: name: this alias stands inside what it names"


def test_a_file_with_very_many_mistakes() -> None:
    reported = mistakes(MINIMAL + "".join(f"key{i}: 1\n" for i in range(10_000)))
    assert (len(reported), reported[-1]) == (MAX_PROBLEMS + 1, "there are more mistakes: correct these first")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "infinitic.yml"
    for data, message in (
        (b"a: b\nc: \xff\n", f"{file}:2: the file is not UTF-8 text"),
        (b"a: b\nc: \x07\n", f"{file}:2: not YAML: the character U+0007 is not allowed"),
        (b"#" * (1024 * 1024 + 1), f"{file}:1: the file has more than 1,048,576 bytes"),
    ):
        file.write_bytes(data)
        with pytest.raises(ConfigurationError) as caught:
            load(file, environ={})
        assert str(caught.value) == message


def test_control_characters_are_spelled_out() -> None:
    assert mistakes(MINIMAL + '"\\x1b[31m\\ud800": 1\n')[0].startswith("<text>:2: \\x1b[31m\\ud800: unknown key")


# Secrets.

SECRET = "hunter-2222"
BASIC = "transport:\n  pulsar:\n    authentication:\n      type: basic\n      username: a\n"


@pytest.mark.parametrize(
    "text",
    [
        BASIC + "      password_file: ${PW}\n",
        BASIC + "      password: [${PW}]\n",
        BASIC + f"      password: [{SECRET}]\n",
        BASIC + f"      password: {{{SECRET}: 1}}\n",
        BASIC + f"      password: *{SECRET}\n",
        BASIC + f"      password: !{SECRET} x\n",
        BASIC + f"      password: &{SECRET} &{SECRET} x\n",
        BASIC + f"      {{password:{SECRET}}}\n",
        f"transport:\n  pulsar:\n    authentication: {SECRET}\n",
        f"transport:\n  pulsar:\n    authentication: password:{SECRET}\n",
        f"transport:\n  pulsar: {{authentication: {{type: basic, username: a, password:{SECRET}}}}}\n",
        f"transport: {{pulsar: {{partitions: 'http://a:{SECRET}@b'}}}}\n",
        f"transport: {{in_memory: {{}}}}\nstorage: {{postgres: 'postgresql://a:{SECRET}@b/c'}}\n",
        f"transport: {{in_memory: {{}}}}\nstorage: {{redis: {{url: 'redis://a:{SECRET}@b/c?d'}}}}\n",
        f"transport: {{in_memory: {{}}}}\nstorage: {{redis: {{host: [{SECRET}]}}}}\n",
        "transport: {in_memory: {}}\nname: '${PW}\\x07'\ndeduplication_window_seconds: ${PW}\n",
        "transport: {in_memory: {}}\nname: ${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}${PW}"
        + "${PW}" * 12
        + "\n",
    ],
)
def test_no_mistake_shows_a_secret(text: str) -> None:
    for each in mistakes(text, PW=SECRET):
        assert SECRET not in each


def test_no_configuration_shows_a_secret(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(SECRET)
    file = tmp_path / "infinitic.yml"
    for text in (
        BASIC + "      password_file: pw\n",
        BASIC + f"      password: {SECRET}\n",
        BASIC.replace("basic\n      username: a", "oauth2\n      issuer_url: https://a")
        + f"      private_key: 'data:application/json,{SECRET}'\n",
        MINIMAL + "storage: {postgres: {username: a, password: ${PW}}}\n",
        MINIMAL + f"storage: {{redis: {{url: 'redis://a:{SECRET}@b/1'}}}}\n",
    ):
        file.write_text(text)
        config = load(file, environ={"PW": SECRET})
        shown = f"{config!r} {config} {config.reader!r} {config.reader.find_node('transport', 'pulsar')!r}"
        assert SECRET not in shown
    assert SECRET not in repr(Node("a", "b", SECRET, hidden=True))


def test_a_variable_for_a_text_is_text() -> None:
    text = BASIC + "      password: x\nstorage: {postgres: {username: a}}\n"
    for value in ("[1]", '{"a": 1}', "[", "{", "", " "):
        variables = {
            "INFINITIC_TRANSPORT__PULSAR__AUTHENTICATION__PASSWORD": value,
            "INFINITIC_STORAGE__POSTGRES__PASSWORD": value,
        }
        config = load(text=text, environ=variables)
        settings: Any = config.transport_settings[1]
        assert settings.authentication.password.get_secret_value() == value
        assert config.storage_settings is not None
        storage: Any = config.storage_settings[1]
        assert storage.password.get_secret_value() == value


def test_variables_for_a_section_and_for_a_key_of_it() -> None:
    variables = {
        "INFINITIC_TRANSPORT__PULSAR__TENANT": "part",
        "INFINITIC_TRANSPORT__PULSAR": '{"tenant": "whole", "namespace": "n"}',
    }
    for environ in (variables, dict(reversed(variables.items()))):
        settings: Any = load(text="transport: {pulsar: {}}\n", environ=environ).transport_settings[1]
        assert (settings.tenant, settings.namespace) == ("part", "n")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("INFINITIC_WORKFLOWS", "[", "workflows: is not JSON: Expecting value at character 2"),
        ("INFINITIC_WORKFLOWS", "[" * 90 + "]" * 90, f"workflows: has more than {yaml_nodes.MAX_LEVELS} levels"),
        ("INFINITIC_WORKFLOWS", "[" * 9000 + "]" * 9000, f"workflows: has more than {yaml_nodes.MAX_LEVELS} levels"),
        ("INFINITIC_NAME" + "__A" * 60, "x", f"name: has more than {yaml_nodes.MAX_LEVELS} levels"),
        ("INFINITIC_NAME__A", SECRET, "name: must be a valid string"),
    ],
)
def test_a_variable_that_is_not_allowed(variable: str, value: str, message: str) -> None:
    assert mistakes(MINIMAL, **{variable: value}) == [f"{variable}: {message}"]
