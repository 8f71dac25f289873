"""Every store does what `outlast.store` promises; a store is a row in `conftest.py`."""

from outlast.testing.contract import EmbeddedClockContract, SharedStoreContract, StoreContract


class TestStore(StoreContract):
    pass


class TestEmbeddedStore(EmbeddedClockContract):
    pass


class TestSharedStore(SharedStoreContract):
    pass
