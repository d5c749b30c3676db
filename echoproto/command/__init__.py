"""The words of ``twistd echo``."""
