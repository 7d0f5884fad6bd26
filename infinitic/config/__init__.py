"""The configuration file: what it may say, and how it is read. Workers and clients are made of it elsewhere."""

from infinitic.config.loading import Config as Config, load as load

__all__ = ["Config", "load"]
