"""Exact instruments for reinforcement learning from verifiable rewards: log-odds, gaps, thresholds, trajectories."""

from rlvrlib import thresholds, updates
from rlvrlib.ascent import Constant, FixedLength, LongStep, ThresholdStep, Trajectory, ascend
from rlvrlib.bandits import ContextualBandit, LogLinearBandit, contextual_bandit
from rlvrlib.directions import Adam, Clipped, Momentum, PolicyGradient, Prescribed, SampledGradient
from rlvrlib.nonlinear import NetworkBandit, QuadraticBandit, segment_regularity
from rlvrlib.overshoot import OvershootInstance, critical_step
from rlvrlib.problems import Problem, Regularity, alignment, failure_rate, log_odds_gain, success_rate, unit
from rlvrlib.tokens import MarkovTokens, TokenWindow

__all__ = [
    "Adam",
    "Clipped",
    "Constant",
    "ContextualBandit",
    "FixedLength",
    "LogLinearBandit",
    "LongStep",
    "MarkovTokens",
    "Momentum",
    "NetworkBandit",
    "OvershootInstance",
    "PolicyGradient",
    "Prescribed",
    "Problem",
    "QuadraticBandit",
    "Regularity",
    "SampledGradient",
    "ThresholdStep",
    "TokenWindow",
    "Trajectory",
    "alignment",
    "ascend",
    "contextual_bandit",
    "critical_step",
    "failure_rate",
    "log_odds_gain",
    "segment_regularity",
    "success_rate",
    "thresholds",
    "unit",
    "updates",
]
