"""The stand-in LLM server and the load generator."""
