"""Training: clips, degradation, stages, one loop. Imported by nothing else in the core but the command line."""
