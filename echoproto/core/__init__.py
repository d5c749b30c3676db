"""The heart: one connection's bytes, which connections are open, a service that stops."""
