"""A relay that is right unless told otherwise: ``echoproto relay`` and ``broken_path``."""
