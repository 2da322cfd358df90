"""The index of one domain in memory: rows, vectors, terms, snapshots of them, and how they stay fresh."""
