"""Completions, the older form: one text in, one text out."""
