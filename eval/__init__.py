"""Mode x example -> completion -> scores -> verdict -> report."""
