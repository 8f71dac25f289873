"""What makes runs go on: apps, workers, attempts, steps, leases. Knows stores by their protocol."""
