"""Documents -> chunks -> index -> passages."""
