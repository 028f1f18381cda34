"""Request traces: files of arrivals and lengths."""
