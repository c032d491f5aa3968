"""The submission zip: its layout, writing it, and checking it."""
