"""The ONNX side: models read and checked, their channels, and proof that two compute the same."""
