"""An echo service that loses nothing."""
