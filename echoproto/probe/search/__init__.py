"""Finding failures: preflight, campaign, shrinking, saved failures."""
