"""GGUF models in llama.cpp as targets."""
