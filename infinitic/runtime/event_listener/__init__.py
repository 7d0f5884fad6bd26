"""Hands events to the event listeners of users."""
