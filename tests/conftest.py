"""What holds for every test."""

import os

from hypothesis import settings

# Cores are shared: a slow example is no failure, the suite's own timeout is.
settings.register_profile("brief", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=2_000)
settings.load_profile("soak" if os.environ.get("OUTLAST_SOAK") else "brief")
