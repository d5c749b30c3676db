"""Explains a failure: what about its shortest conversation matters, found by experiment."""
