"""Exact instruments on a causal language model (extra ``lm``)."""
