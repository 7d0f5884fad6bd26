"""Words in the product: the terms of the glossary are used, and words that were replaced are gone.

The pages of the documentation are checked by `tests/docs/test_pages.py`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.architecture.project import ROOT, parse, product_modules, project_files, relative
from tests.architecture.words import REPLACED_WORDS

GLOSSARY = ROOT / "docs" / "glossary.md"

OTHER_MEANINGS = {"fold": "infinitic/codec/"}
"""Folders in which a word means something else: there it is the field `fold` of a datetime."""


@cache
def read_glossary() -> dict[str, str]:
    """Read the terms of the glossary, and the sentence that explains each."""
    rows = [line.strip("| ").split(" | ") for line in GLOSSARY.read_text(encoding="utf-8").splitlines()]
    terms = [row for row in rows if len(row) == 3 and row[0] != "term"]
    explained = {name: sentence for row in terms for name in row[0].split(", ") for sentence in [row[1]]}
    assert len(explained) == sum(len(row[0].split(", ")) for row in terms), "a term is explained twice"
    return explained


@cache
def read_texts() -> str:
    """Read all documentation but the glossary, and all modules of the product, in lower case."""
    pages = [path for path in project_files() if path.suffix == ".md" and path != GLOSSARY]
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*pages, *product_modules()])
    return re.sub(r"[\s_-]+", " ", text.lower())


def list_identifiers(path: Path) -> Iterator[str]:
    """List the names that a module defines: its own, and those of classes, functions, variables."""
    yield path.stem
    for node in ast.walk(parse(path)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def split_name(name: str) -> list[str]:
    """Split a name into words in lower case, without the endings of plurals and participles."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return [re.sub(r"(?<=[^s])s$|(?<=[a-z]{3})ed$", "", re.sub(r"ie[ds]$", "y", word.lower())) for word in words]


def test_how_names_are_split() -> None:
    assert split_name("_bury_all") == ["bury", "all"]
    assert split_name("HORIZON_SECONDS") == ["horizon", "second"]
    assert split_name("BuriedFolds") == ["bury", "fold"]


def test_the_glossary_is_read() -> None:
    assert len(read_glossary()) > 60
    assert read_glossary()["fused"] == read_glossary()["split"]


def test_each_term_of_the_glossary_is_used_elsewhere() -> None:
    """In any form: "take over" is also found as "takes over" and `taken_over`."""
    patterns = {term: re.escape(term.lower()).replace(r"\-", "-") for term in read_glossary()}
    patterns = {term: r"\b" + re.sub(r"(?:\\ |-)+", r"\\w* ", pattern) for term, pattern in patterns.items()}
    unused = {term for term, pattern in patterns.items() if not re.search(pattern, read_texts())}
    assert unused == set()


def test_each_term_of_the_glossary_is_explained_in_one_sentence() -> None:
    several = {term: text for term, text in read_glossary().items() if re.search(r"[.!?](\s|$)", text)}
    assert several == {}


def test_no_name_of_the_product_has_a_word_that_was_replaced() -> None:
    found = [
        f"{relative(path)}: {name}: {REPLACED_WORDS[word]}"
        for path in product_modules()
        for name in sorted(set(list_identifiers(path)))
        for word in REPLACED_WORDS.keys() & split_name(name)
        if not relative(path).startswith(OTHER_MEANINGS.get(word, "nowhere"))
    ]
    assert found == []
