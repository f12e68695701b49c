"""Whether what a run is asked has drifted from what it was trained on."""
