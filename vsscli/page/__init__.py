"""A report as a folder with an HTML page that opens from disk. It takes plain values and arrays, and knows no store."""
