"""The configuration file: what it may say, and how it is read.

It knows no class of users. `Worker.from_config` imports those that the file names.
"""

from infinitic.config.loading import Config as Config, load as load

__all__ = ["Config", "load"]
