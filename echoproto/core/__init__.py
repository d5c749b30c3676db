"""The heart: one connection's bytes, who is connected, and a service that serves and stops."""
