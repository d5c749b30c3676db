"""Telling it: terminal, HTML, JUnit, JSON lines."""
