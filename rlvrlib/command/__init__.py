"""The command ``rlvr``."""
