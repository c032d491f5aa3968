"""The work of a command as a function: from data to checkpoints and stores, from stores to figures."""
