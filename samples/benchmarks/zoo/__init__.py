"""Tiny models of the families that people bring, by family."""
