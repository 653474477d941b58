"""The dashboard: it draws what `kdaif.runs` reads and starts jobs; it trains nothing and imports no torch."""
