"""Records of what was seen and decided: JSON lines that can be replayed."""
