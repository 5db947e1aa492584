"""Chat with a model: chat templates in a sandbox, and conversations that keep their KV cache."""
