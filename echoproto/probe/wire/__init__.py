"""Saying it: targets, channels, exchanges, verdicts."""
