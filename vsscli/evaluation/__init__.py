"""Labels from anywhere against masks: every metric in one pass."""
