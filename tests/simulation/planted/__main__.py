"""`make planted`: look for each planted bug, and write what was found.

`python -m tests.simulation.planted [NAME …] [--jobs N] [--unfound]`
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.planted import list_bugs
from tests.simulation.planted.hunting import MOST_SEEDS, hunt_by_name, read_finds, write_finds
from tests.simulation.planted.page import PAGE, make_page


def main() -> int:
    """Look for bugs. Returns 1 if one of them was not found."""
    parser = argparse.ArgumentParser(description="Look for planted bugs under seeds, and write what was found.")
    parser.add_argument("names", nargs="*", help="bugs; by default all of them")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes look")
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="how many seeds a bug may take")
    parser.add_argument("--unfound", action="store_true", help="only those that were not found before")
    options = parser.parse_args()
    finds = read_finds()
    names = options.names or [name for name in list_bugs() if not (options.unfound and name in finds)]
    missed = list[str]()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for name, find, seconds in pool.map(hunt_by_name, names, [options.seeds] * len(names)):
            if find is None:
                missed.append(name)
                finds.pop(name, None)
                print(f"{name}: not found in {options.seeds} seeds ({seconds:.0f} s)", flush=True)
            else:
                finds[name] = find
                print(f"{name}: seed {find.seeds}, {find.scenario}: {find.rule} ({seconds:.0f} s)", flush=True)
            known = {each: found for each, found in finds.items() if each in list_bugs()}
            write_finds(known)
            PAGE.write_text(make_page(known))
    print(f"{len(names) - len(missed)} of {len(names)} bugs were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
