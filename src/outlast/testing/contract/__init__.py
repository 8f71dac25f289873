"""What every store and every wrapper of one must do, as tests for pytest.

Whoever writes a store says where it is and which clock it goes by, and asserts nothing:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def clock(self) -> FakeClock:
            return FakeClock()

        @pytest_asyncio.fixture
        async def store(self, clock: FakeClock) -> AsyncIterator[Store]:
            async with MyStore(clock) as store:
                yield store

A store whose data is there for whoever opens it next also passes `SharedStoreContract`, and one
that goes by the clocks of its machine `EmbeddedClockContract`; one that goes by a server's clock
takes the given one in its place. The tests are coroutines, which pytest-asyncio runs.
"""

import pytest

# Before they are imported: an assertion that fails shows what it compared.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "claims",
            "commits",
            "deletes",
            "drafting",
            "hints",
            "leases",
            "reads",
            "scans",
            "shared",
        )
    )
)

from outlast.testing.contract.claims import ClaimContract  # noqa: E402 - see above
from outlast.testing.contract.commits import CommitContract  # noqa: E402
from outlast.testing.contract.deletes import DeleteContract  # noqa: E402
from outlast.testing.contract.hints import HintContract  # noqa: E402
from outlast.testing.contract.leases import EmbeddedClockContract, LeaseContract  # noqa: E402
from outlast.testing.contract.reads import ReadContract  # noqa: E402
from outlast.testing.contract.scans import ScanContract  # noqa: E402
from outlast.testing.contract.shared import SharedStoreContract  # noqa: E402

__all__ = ["EmbeddedClockContract", "SharedStoreContract", "StoreContract"]


class StoreContract(
    CommitContract,
    ReadContract,
    ClaimContract,
    LeaseContract,
    ScanContract,
    DeleteContract,
    HintContract,
):
    """Every promise that `outlast.store` makes; fixtures `store` and `clock` are yours."""
