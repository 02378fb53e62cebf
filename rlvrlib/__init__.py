"""Exact instruments for RLVR: log-odds, gaps, thresholds, trajectories.

One flat surface: each module says in its `__all__` what it gives, wherever it lies.
"""

# ruff: noqa: F403, I001  (the order is that of the book)
from rlvrlib import problems, bandits, contextual, nonlinear, tokens, markov_tokens, correlated
from rlvrlib import overshoot, verifiers, moving, methods, frameworks, directions, surrogates
from rlvrlib import steps, estimated, ascent, batches, weightings, blocks
from rlvrlib import thresholds, update_map
from rlvrlib.problems import *
from rlvrlib.bandits import *
from rlvrlib.contextual import *
from rlvrlib.nonlinear import *
from rlvrlib.tokens import *
from rlvrlib.markov_tokens import *
from rlvrlib.correlated import *
from rlvrlib.overshoot import *
from rlvrlib.verifiers import *
from rlvrlib.moving import *
from rlvrlib.methods import *
from rlvrlib.frameworks import *
from rlvrlib.directions import *
from rlvrlib.surrogates import *
from rlvrlib.steps import *
from rlvrlib.estimated import *
from rlvrlib.ascent import *
from rlvrlib.batches import *
from rlvrlib.weightings import *
from rlvrlib.blocks import *
from rlvrlib.renamed import __getattr__ as __getattr__

_FROM = [problems, bandits, contextual, nonlinear, tokens, markov_tokens, correlated, overshoot]
_FROM += [verifiers, moving, methods, frameworks, directions, surrogates, steps, estimated]
_FROM += [ascent, batches, weightings, blocks]
__all__ = ["batches", "thresholds", "update_map"]
__all__ += [name for module in _FROM for name in module.__all__]
