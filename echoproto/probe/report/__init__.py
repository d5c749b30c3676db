"""Reporting: terminal, HTML, JUnit, JSON lines."""
