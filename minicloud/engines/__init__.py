"""The database servers: `engine.py` says what every one promises, the others keep it."""
