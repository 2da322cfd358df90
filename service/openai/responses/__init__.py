"""Responses: OpenAI's newer way to ask, with conversations that the server remembers."""
