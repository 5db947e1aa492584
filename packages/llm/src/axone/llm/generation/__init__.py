"""Text generation: prefill, decoding, sampling."""
