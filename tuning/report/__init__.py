"""A search -> its answer, its table of trials and its page."""
