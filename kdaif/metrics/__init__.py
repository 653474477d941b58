"""How good scores are: finding flipped labels (`detection`), agreeing with another ranking (`ranking`), rank graduation (`safe`).

NumPy and SciPy only.
"""
