"""The ACT network."""
