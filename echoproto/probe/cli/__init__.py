"""The command line: ``echoproto fuzz | replay | catalogue | ping``."""
