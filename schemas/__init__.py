"""JSON Schemas and robot presets: data only."""
