"""The command line of ``twistd echo``."""
