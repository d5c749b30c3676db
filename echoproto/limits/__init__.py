"""What one server gives at most: slots, connections per source, rate, idle time."""
