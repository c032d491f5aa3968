"""Metrics: accumulators over the frames of videos, one file each. No torch."""
