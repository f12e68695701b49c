"""A click log that is made, whose best possible scores are known."""
