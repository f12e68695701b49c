"""Statistics of past behaviour: what is counted of a key, and what a field makes of it."""
