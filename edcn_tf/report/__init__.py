"""Runs -> a page with figures, and a model -> a table or a drawing of it."""
