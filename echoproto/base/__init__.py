"""What knows nothing of an echo: addresses, the clock, waiting, a log that counts."""
