"""Payload codecs that are ready to use: encryption, and large values that are kept outside.

`infinitic.codec` is what values go through. These are two ends of a chain of codecs.
"""
