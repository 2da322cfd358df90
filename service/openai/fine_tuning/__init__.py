"""OpenAI's fine-tuning jobs: ordered here, run by a worker as `bakeoff train`."""
