"""Examples -> rows -> adapter."""
