"""Exact instruments for RLVR: log-odds, gaps, thresholds, trajectories."""

from typing import TYPE_CHECKING

from rlvrlib import batches, thresholds, update_map
from rlvrlib.ascent import Trajectory, ascend
from rlvrlib.bandits import LogLinearBandit, TabularBandit
from rlvrlib.batches import BatchMean
from rlvrlib.blocks import UniformStarts, ascend_blocks
from rlvrlib.contextual import ContextualBandit, contextual_bandit
from rlvrlib.correlated import CorrelatedWindow
from rlvrlib.directions import (
    Adam,
    Clipped,
    Direction,
    Momentum,
    PolicyGradient,
    Prescribed,
    PromptMean,
    RateSchedule,
    SampledGradient,
    TrainedOn,
    Turned,
)
from rlvrlib.estimated import EstimatedMove, EstimatedStep
from rlvrlib.frameworks import advantages, token_weights
from rlvrlib.markov_tokens import MarkovTokens
from rlvrlib.methods import METHODS, multiplier
from rlvrlib.moving import (
    Curriculum,
    MovingProblem,
    Schedule,
    Shifted,
    Steered,
    following_lag,
    harder,
    steps_back,
)
from rlvrlib.nonlinear import NetworkBandit, QuadraticBandit, SuccessParabola, segment_regularity
from rlvrlib.overshoot import OvershootInstance, critical_step
from rlvrlib.problems import (
    Array,
    At,
    Problem,
    Regularity,
    SampledProblem,
    alignment,
    failure_rate,
    log_odds_gain,
    success_rate,
    unit,
)
from rlvrlib.steps import Constant, FixedLength, GuaranteedStep, LongStep, Step, ThresholdStep
from rlvrlib.surrogates import ClippedSurrogate, KLPenalty, kl_gradient
from rlvrlib.tokens import TokenWindow, WindowPrompts
from rlvrlib.verifiers import NoisyVerifier, noisy_bandit
from rlvrlib.weightings import LargestGain, MiniBatch, PromptWeighted

__all__ = [
    "METHODS",
    "Adam",
    "Array",
    "At",
    "BatchMean",
    "Clipped",
    "ClippedSurrogate",
    "Constant",
    "ContextualBandit",
    "CorrelatedWindow",
    "Curriculum",
    "Direction",
    "EstimatedMove",
    "EstimatedStep",
    "FixedLength",
    "GuaranteedStep",
    "KLPenalty",
    "LargestGain",
    "LogLinearBandit",
    "LongStep",
    "MarkovTokens",
    "MiniBatch",
    "Momentum",
    "MovingProblem",
    "NetworkBandit",
    "NoisyVerifier",
    "OvershootInstance",
    "PolicyGradient",
    "Prescribed",
    "Problem",
    "PromptMean",
    "PromptWeighted",
    "QuadraticBandit",
    "RateSchedule",
    "Regularity",
    "SampledGradient",
    "SampledProblem",
    "Schedule",
    "Shifted",
    "Steered",
    "Step",
    "SuccessParabola",
    "TabularBandit",
    "ThresholdStep",
    "TokenWindow",
    "TrainedOn",
    "Trajectory",
    "Turned",
    "UniformStarts",
    "WindowPrompts",
    "advantages",
    "alignment",
    "ascend",
    "ascend_blocks",
    "batches",
    "contextual_bandit",
    "critical_step",
    "failure_rate",
    "following_lag",
    "harder",
    "kl_gradient",
    "log_odds_gain",
    "multiplier",
    "noisy_bandit",
    "segment_regularity",
    "steps_back",
    "success_rate",
    "thresholds",
    "token_weights",
    "unit",
    "update_map",
]

# Where the modules of earlier versions are now.
_MOVED = {
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

if not TYPE_CHECKING:  # a type checker would take every name as known

    def __getattr__(name: str) -> None:
        if name in _MOVED:  # an AttributeError would lose its message in `from rlvrlib import name`
            raise ImportError(f"rlvrlib.{name} is now rlvrlib.{_MOVED[name]}")
        raise AttributeError(f"module 'rlvrlib' has no attribute {name!r}")
