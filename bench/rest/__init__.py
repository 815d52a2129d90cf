"""Every family of reward models on real data, from raw files to a leaderboard, through REST alone."""
