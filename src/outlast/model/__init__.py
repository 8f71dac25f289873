"""What a run is: its events, what they amount to, what follows. Pure: no I/O, clock, or chance."""
