"""The commands `act-data` and `act-model`."""
