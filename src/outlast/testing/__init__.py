"""What you need to test your own tasks and stores; nothing here runs in production.

`FakeClock` moves only when told. `outlast.testing.contract` is what every store must do, as a suite
for pytest; it alone imports pytest.
"""

from outlast.testing.clock import FakeClock

__all__ = ["FakeClock"]
