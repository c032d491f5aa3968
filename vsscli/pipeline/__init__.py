"""Stages: from checkpoints and data to stores, from stores to figures, and the whole loop."""
