"""act-zarr keeps the promises of every store."""

from __future__ import annotations

from tests.data.store.contract import StoreContract


class TestZarr(StoreContract):
    name = "ds.zarr"
    codecs = ("raw", "jpeg", "zstd", "blosc")
