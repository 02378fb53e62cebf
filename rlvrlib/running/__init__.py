"""Notebooks with other parameters: one run, a sweep, and their pages."""
