"""The embedded engine: OpenVINO on this machine's CPU, one process for each set of weights it serves."""
