"""People, data and their judgements. Knows nothing of reward models."""
