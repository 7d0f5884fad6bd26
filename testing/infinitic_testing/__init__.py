"""Test kit of Infinitic."""
