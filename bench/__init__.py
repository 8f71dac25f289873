"""What outlast costs, beside the least that the same writes could cost on the same machine.

Start reading at `figures.py`, all measurements; `rounds.py` says how each is made, `raw.py` what
the limit is. The one rule that must not be broken: the limit writes what outlast writes, row by
row.
"""
