"""Tuning: kernels that were measured to be faster than those of the deterministic schedules."""
