"""The stages of a run: each takes a model, with what is known about it, to the next."""
