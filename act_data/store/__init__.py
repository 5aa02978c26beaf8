"""Datasets on disk: act-zarr and ALOHA HDF5."""
