"""Question -> mode -> passages -> messages -> completion -> HTTP."""
