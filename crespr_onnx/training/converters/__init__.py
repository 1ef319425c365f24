"""What each ONNX operator computes, in PyTorch: a small file for each family of operators."""
