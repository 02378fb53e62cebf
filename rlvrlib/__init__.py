"""Exact instruments for reinforcement learning from verifiable rewards: log-odds, gaps, thresholds, trajectories."""

from rlvrlib import prompts, thresholds, updates
from rlvrlib.ascent import Constant, FixedLength, ThresholdStep, Trajectory, ascend
from rlvrlib.bandits import ContextualBandit, LogLinearBandit, contextual_bandit
from rlvrlib.directions import Adam, Clipped, Momentum, PolicyGradient, Prescribed, SampledGradient
from rlvrlib.nonlinear import NetworkBandit, QuadraticBandit, segment_regularity
from rlvrlib.overshoot import OvershootInstance, critical_step
from rlvrlib.problems import Problem, Regularity, alignment, failure_rate, log_odds_gain, success_rate, unit
from rlvrlib.prompts import BatchMean, BatchThreshold
from rlvrlib.tokens import MarkovTokens, TokenWindow
from rlvrlib.weightings import LargestGain, PromptWeighted
from rlvrlib.window_prompts import WindowPrompts

__all__ = [
    "Adam",
    "BatchMean",
    "BatchThreshold",
    "Clipped",
    "Constant",
    "ContextualBandit",
    "FixedLength",
    "LargestGain",
    "LogLinearBandit",
    "MarkovTokens",
    "Momentum",
    "NetworkBandit",
    "OvershootInstance",
    "PolicyGradient",
    "Prescribed",
    "Problem",
    "PromptWeighted",
    "QuadraticBandit",
    "Regularity",
    "SampledGradient",
    "ThresholdStep",
    "TokenWindow",
    "Trajectory",
    "WindowPrompts",
    "alignment",
    "ascend",
    "contextual_bandit",
    "critical_step",
    "failure_rate",
    "log_odds_gain",
    "prompts",
    "segment_regularity",
    "success_rate",
    "thresholds",
    "unit",
    "updates",
]
