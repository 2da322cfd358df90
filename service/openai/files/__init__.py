"""OpenAI files: what clients upload, kept under random names, and read by vector stores and training jobs."""
