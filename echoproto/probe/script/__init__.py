"""What to send: conversations, the catalogue, strategies."""
