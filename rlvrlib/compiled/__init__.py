"""What is compiled (extra ``fast``: numba): more runs per second than NumPy's passes allow."""
