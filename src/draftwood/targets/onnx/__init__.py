"""Models in ONNX Runtime GenAI as targets."""
