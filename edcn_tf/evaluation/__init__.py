"""A model and records -> scores, and how good, calibrated and explained they are."""
