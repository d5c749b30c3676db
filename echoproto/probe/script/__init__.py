"""What to say: conversations, the catalogue, strategies."""
