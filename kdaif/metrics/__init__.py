"""How good scores are: finding flipped labels (`detection`), agreeing with another ranking (`ranking`). NumPy and SciPy only."""
