"""Campaigns: a function is run under many seeds, and a seed that fails is explained.

- `run_seed` runs a function under one seed, and returns a `SeedReport`.
- `find_functions` finds the functions of a module or file.
"""

from infinitic_testing.campaign.functions import find_functions as find_functions
from infinitic_testing.campaign.running import run_seed as run_seed
from infinitic_testing.campaign.seed_report import SeedFailure as SeedFailure, SeedReport as SeedReport
from infinitic_testing.campaign.setting import Setting as Setting
