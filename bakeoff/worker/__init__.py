"""The worker: takes queued jobs and runs each as a command line of its own."""
