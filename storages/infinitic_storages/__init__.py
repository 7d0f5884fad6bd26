"""Storages of Infinitic, one module each: `memory` (in one process). They implement `infinitic.storage`.

A module is imported by its name, so that no driver is needed but the one that is used.
"""
