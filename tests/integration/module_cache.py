"""Makes Python import modules once more, as a process that has not imported them yet."""

from __future__ import annotations

import sys

import pytest


def forget_modules(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Have the modules of a package imported once more, until the end of the test.

    A package has its modules as attributes. These are restored as well: otherwise it would keep
    whatever was imported during the test.

    Args:
        monkeypatch: restores what was there.
        package: its name. Its modules are forgotten, too.
    """
    for name in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
        parent, _, attribute = name.rpartition(".")
        if attribute in vars(sys.modules.get(parent, sys)):
            monkeypatch.setattr(sys.modules[parent], attribute, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
