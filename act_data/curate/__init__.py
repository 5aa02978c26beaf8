"""Datasets are curated: episodes leave, come back, are named, divided and brought together.

What was committed never changes. Every verb here makes a new version, or a new dataset, and says
what lies between it and the one before; with `dry_run` it only says it.
"""
