"""Collection of the scripts' examples: scripts that import peers are left out."""

collect_ignore = ["adapter_exchange.py", "interop.py", "llama_cpp_decode.py", "peers.py"]
