"""The work of a verb as a function: from data to checkpoints and stores, from stores to figures."""
