"""Which functions of a module or file can be run under seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinitic.errors import ConfigurationError, UsageError
from infinitic_testing.campaign import find_functions
from infinitic_testing.campaign.functions import find_function

CODE = """
async def test_one(sim): return 1
async def simulate_two(sim): return 2
async def test_with_a_fixture(sim, desk): ...
async def helper(sim): ...
def test_plain(sim): ...
from asyncio import sleep as test_imported
"""


def test_async_functions_that_take_only_a_simulation_are_found(tmp_path: Path) -> None:
    file = tmp_path / "trips_of_a_file.py"
    file.write_text(CODE)
    assert list(find_functions(str(file))) == [f"{file}:test_one", f"{file}:simulate_two"]
    assert list(find_functions(f"{file}:simulate_two")) == [f"{file}:simulate_two"]
    assert find_function(f"{file}:test_one").__name__ == "test_one"


def test_all_modules_of_a_folder_are_searched(tmp_path: Path) -> None:
    for name in ("b_of_a_folder", "a_of_a_folder"):
        (tmp_path / f"{name}.py").write_text(CODE)
    found = [name.removeprefix(f"{tmp_path}/") for name in find_functions(str(tmp_path))]
    assert found == [f"{name}_of_a_folder.py:{each}" for name in "ab" for each in ("test_one", "simulate_two")]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = [tmp_path / folder / "trips_of_two_folders.py" for folder in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(f"async def test_it(sim): return {number}\n")
    found = [find_function(f"{file}:test_it") for file in (*files, *files)]
    assert [function.__code__.co_filename for function in found] == [str(file) for file in (*files, *files)]


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("nowhere.py", ConfigurationError, "There is no file nowhere.py"),
        ("nowhere.at_all", ConfigurationError, "there is no module 'nowhere'"),
        ("two words", ConfigurationError, "neither a module, a file nor a folder"),
        ("infinitic.errors", UsageError, "There is nothing to run in infinitic.errors"),
        ("infinitic.errors:test_it", UsageError, "There is no function 'test_it'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(place: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        find_functions(place)


def test_a_module_that_cannot_be_imported_says_where(tmp_path: Path) -> None:
    file = tmp_path / "broken_module.py"
    file.write_text("x = 1\nraise LookupError('no such trip')\n")
    with pytest.raises(ConfigurationError, match=r"raised LookupError: no such trip \(.*broken_module.py, line 2\)"):
        find_functions(str(file))
