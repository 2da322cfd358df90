"""The second engine: one or several vLLM servers behind the `Generator` protocol."""
