"""Schedules for CUDA devices: every kernel of a model bound to blocks and threads."""
