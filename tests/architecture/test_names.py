"""Names in the product: one name is one thing, functions are verbs.

Whether a word is a verb, only a reader can say. These tests find the usual mistakes.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.project import parse, product_modules, relative

IRREGULAR_PARTICIPLES = (
    "begun bound broken built chosen done drawn driven fallen forgotten found frozen given gone gotten grown heard "
    "held hidden kept known left lost made meant met paid proven said seen sent shown sold sought spent spoken stolen "
    "stuck taken taught thought thrown told torn understood woken won worn written"
)
VERBS = frozenset({"embed", "exceed", "feed", "heed", "need", "proceed", "seed", "speed", "succeed"})
"""They end like a participle."""


def list_classes(path: Path) -> Iterator[str]:
    """List the classes of a module, wherever in it they are."""
    return (node.name for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))


def list_functions(path: Path) -> Iterator[str]:
    """List the top-level functions of a module."""
    body = parse(path).body
    return (node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_participle(name: str) -> bool:
    """True for one word that is a past participle, such as `found`, `_counted` or `unfinished`."""
    word = name.strip("_")
    if "_" in word or word in VERBS:
        return False
    return word.removeprefix("un") in IRREGULAR_PARTICIPLES.split() or re.search(r"[a-z]{2}ed$", word) is not None


def test_what_a_participle_is() -> None:
    assert [name for name in ("found", "_counted", "unfinished", "untold", "tuned") if not is_participle(name)] == []
    assert [name for name in ("find", "feed", "seed", "task_failed", "get_seen", "red") if is_participle(name)] == []


def test_no_two_classes_of_the_product_have_one_name() -> None:
    places = defaultdict[str, list[str]](list)
    for path in product_modules():
        for name in list_classes(path):
            places[name].append(relative(path))
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_function_of_the_product_is_named_by_a_bare_participle() -> None:
    found = [
        f"{relative(path)}: {name}"
        for path in product_modules()
        for name in list_functions(path)
        if is_participle(name)
    ]
    assert found == []
