"""A reader's own training run: reading its log, its signals, a verdict, and a plan for the next
step size."""
