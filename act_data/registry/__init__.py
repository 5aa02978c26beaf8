"""The index that turns a name into a dataset and proves it unchanged."""
