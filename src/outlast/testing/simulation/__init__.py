"""Processes that are killed, frozen and cut off in one thread, on one clock, from one seed.

A `Simulation` has a store, a clock, and processes with apps of their own: the real engine, and your
own tasks. Between them is a network on which requests take time, and are lost, late, or never
answered. `Trouble` says what befalls the processes, and a `Troublemaker` brings it about. The same
seed gives the same trace.

`python -m outlast.testing.simulation` plays the worlds that outlast itself is held against: `play`
plays one of `WORLDS`, and `run_campaign` many seeds of it. They are not imported here, because they
declare tasks.
"""

from outlast.testing.simulation.process import Process, State
from outlast.testing.simulation.simulation import Simulation
from outlast.testing.simulation.trace import Happening, SimulationFailed
from outlast.testing.simulation.trouble import Trouble, Troublemaker

__all__ = [
    "Happening",
    "Process",
    "Simulation",
    "SimulationFailed",
    "State",
    "Trouble",
    "Troublemaker",
]
