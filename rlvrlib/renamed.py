"""Where the modules of earlier versions are now."""

MOVED = {
    "calculator": "command.calculator",
    "change_points": "practice.change_points",
    "claims": "evidence.claims",
    "cli": "command.app",
    "diagnosis": "practice.diagnosis",
    "execution": "running.execution",
    "figures": "evidence.figures",
    "interactive": "evidence.interactive",
    "log_formats": "practice.formats",
    "many_runs": "blocks",
    "overview": "running.overview",
    "page": "evidence.html and rlvrlib.running.notebook_page",
    "parameter_vectors": "language_model.vectors",
    "parameters": "running.parameters",
    "planning": "practice.planning",
    "pressure": "practice.pressure",
    "prompts": "batches",
    "report": "practice.report",
    "rerun": "command.notebooks",
    "run_log": "practice.run_log",
    "run_signals": "practice.signals",
    "sampled_gap": "language_model.sampled",
    "sampled_runs": "practice.sampled_runs",
    "schedules": "moving",
    "sweep": "running.sweep",
    "tabular": "bandits",
    "threshold_searches": "first_zero",
    "updates": "methods and rlvrlib.frameworks",
    "verdicts": "practice.verdicts",
    "window_prompts": "tokens",
}


def __getattr__(name: str) -> None:
    """The new home of an old name, as an error of one line."""
    if name in MOVED:  # an AttributeError would lose its message in `from rlvrlib import name`
        raise ImportError(f"rlvrlib.{name} is now rlvrlib.{MOVED[name]}")
    raise AttributeError(f"module 'rlvrlib' has no attribute {name!r}")
