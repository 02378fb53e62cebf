"""Exact instruments for RLVR: log-odds, gaps, thresholds, trajectories."""

from rlvrlib import batches, thresholds, update_map, updates
from rlvrlib.ascent import Trajectory, ascend
from rlvrlib.bandits import LogLinearBandit, TabularBandit
from rlvrlib.batches import BatchMean, BatchThreshold
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
    RateSchedule,
    SampledGradient,
    TrainedOn,
)
from rlvrlib.markov_tokens import MarkovTokens
from rlvrlib.moving import Curriculum, MovingProblem, Schedule, Shifted, Steered, harder
from rlvrlib.nonlinear import NetworkBandit, QuadraticBandit, segment_regularity
from rlvrlib.overshoot import OvershootInstance, critical_step
from rlvrlib.problems import (
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
from rlvrlib.steps import Constant, FixedLength, LongStep, Step, ThresholdStep
from rlvrlib.surrogates import ClippedSurrogate, KLPenalty, kl_gradient
from rlvrlib.tokens import TokenWindow, WindowPrompts
from rlvrlib.verifiers import NoisyVerifier, noisy_bandit
from rlvrlib.weightings import LargestGain, PromptWeighted

__all__ = [
    "Adam",
    "At",
    "BatchMean",
    "BatchThreshold",
    "Clipped",
    "ClippedSurrogate",
    "Constant",
    "ContextualBandit",
    "CorrelatedWindow",
    "Curriculum",
    "Direction",
    "FixedLength",
    "KLPenalty",
    "LargestGain",
    "LogLinearBandit",
    "LongStep",
    "MarkovTokens",
    "Momentum",
    "MovingProblem",
    "NetworkBandit",
    "NoisyVerifier",
    "OvershootInstance",
    "PolicyGradient",
    "Prescribed",
    "Problem",
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
    "TabularBandit",
    "ThresholdStep",
    "TokenWindow",
    "TrainedOn",
    "Trajectory",
    "UniformStarts",
    "WindowPrompts",
    "alignment",
    "ascend",
    "ascend_blocks",
    "batches",
    "contextual_bandit",
    "critical_step",
    "failure_rate",
    "harder",
    "kl_gradient",
    "log_odds_gain",
    "noisy_bandit",
    "segment_regularity",
    "success_rate",
    "thresholds",
    "unit",
    "update_map",
    "updates",
]
