"""What a run is: its events, what they amount to, and what follows. Pure: no I/O, no clock, no chance."""
