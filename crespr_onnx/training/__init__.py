"""The PyTorch side: import, importance, clustering, restriction and fine-tuning."""
