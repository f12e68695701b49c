"""Statistics of past behaviour: what is counted of keys, and what fields make of it."""
