"""Studies of single methods on real data, which take more than one training; every family by itself: bench/rest."""
