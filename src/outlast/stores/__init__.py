"""Where journals are kept. Stores know nothing of each other, and none knows what a run is."""
