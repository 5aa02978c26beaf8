"""Robot presets."""
