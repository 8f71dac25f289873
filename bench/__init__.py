"""What outlast costs, beside the least that the same writes could cost, and beside others.

Start reading at `figures.py`, all parts; `rounds.py` says how what is compared is measured,
`raw.py` what the limit is, `peers.py` who the others are. The one rule that must not be broken: the
limit writes what outlast writes, row by row, and everybody waits for the disk.
"""
