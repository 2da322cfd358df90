"""An adapter -> how much of its training text it gives away."""
