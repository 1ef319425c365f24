"""Chooses the form of every split layer by measured time; `decide` is where it starts."""
