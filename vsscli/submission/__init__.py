"""The zip that is handed in: how it is laid out, written, and checked."""
