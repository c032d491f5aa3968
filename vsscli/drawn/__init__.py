"""Small synthetic videos of streets, for use without real data."""
