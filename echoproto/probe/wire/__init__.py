"""Sending it: targets, channels, exchanges, verdicts."""
