"""How a stopping service lets its connections end."""
