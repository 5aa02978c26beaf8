"""Datasets in the HDF5 layout of the original ALOHA recordings, one file per episode."""

from act_data.store.hdf5.dataset_reader import Hdf5Reader
from act_data.store.hdf5.dataset_writer import Hdf5Writer
from act_data.store.hdf5.guarded import GuardedArray, GuardedFile

__all__ = ["GuardedArray", "GuardedFile", "Hdf5Reader", "Hdf5Writer"]
