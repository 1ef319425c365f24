"""Data to train and evaluate on: read, checked against the model's signature, kept in memory."""

from crespr_onnx.data.load import load_data
from crespr_onnx.data.normalisation import ImageOptions, Normalisation
from crespr_onnx.data.samples import Samples

__all__ = ["ImageOptions", "Normalisation", "Samples", "load_data"]
