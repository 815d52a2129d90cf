"""Models under test: reward models, runs, evaluations and comparisons."""
