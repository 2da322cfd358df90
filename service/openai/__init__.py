"""OpenAI's dialect: one room a resource, each with its wire forms and its routes."""
