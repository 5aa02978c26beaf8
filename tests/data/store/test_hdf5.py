from tests.data.store.contract import StoreContract


class TestFolder(StoreContract):
    name = "episodes"
    codecs = ("raw",)


class TestSingleFile(StoreContract):
    name = "one.hdf5"
    codecs = ("raw",)
    versions = False
    appends = False
