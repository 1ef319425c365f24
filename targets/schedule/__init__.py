"""Deterministic schedules for CPUs; `pipeline` tells how they are applied."""
