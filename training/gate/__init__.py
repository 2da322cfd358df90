"""An adapter and what serves now -> the checks that stand before a promotion."""
