"""Infinitic beside web frameworks and containers. Each module runs on its own."""
