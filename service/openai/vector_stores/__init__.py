"""OpenAI vector stores: a domain's documents, filled with uploaded files and searched with filters."""
