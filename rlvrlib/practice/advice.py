"""What to change first, in the names of TRL's and verl's configurations.

What of it is a theorem, was measured or is a guess stands in the chapter "A practitioner's guide".
"""

from __future__ import annotations

_RATE = "TRL `learning_rate`, verl `actor_rollout_ref.actor.optim.lr`"
_CAP = "TRL `max_completion_length`, verl `data.max_response_length`"
_GROUP = "TRL `num_generations`, verl `actor_rollout_ref.rollout.n`"

BROKEN = (
    "Go back to a checkpoint before step {step:g}: weights that once took in such a number keep "
    "it.",
    "Find the overflow before the run goes on: train in bfloat16 instead of float16 (TRL "
    "`bf16=True`, verl `actor_rollout_ref.actor.fsdp_config.dtype=bfloat16`), and look for a "
    "batch without a single token that counts. A lower rate alone is no cure.",
)
SHORTER_STEPS = (
    "Go back to a checkpoint before step {step:g} and take a third of the learning rate (a first "
    f"guess): {_RATE}.",
    "If the loss sums over tokens, divide by the length: TRL `loss_type`, verl "
    "`actor_rollout_ref.actor.loss_agg_mode`; or keep the length from growing.",
    "Bound single moves: TRL `max_grad_norm` and `epsilon`, verl "
    "`actor_rollout_ref.actor.grad_clip` and `actor_rollout_ref.actor.clip_ratio`.",
)
FIND_THE_CAUSE = (
    "Look at what changed near step {step:g}: the order or mixture of the prompts, the "
    "verifier, the sampling temperature. Judge a fixed set of prompts by two checkpoints, one "
    "from before and one from after.",
    "If that set fell too, go back to the earlier checkpoint and take a third of the learning "
    f"rate (a first guess): {_RATE}.",
)
TRUNCATED = (
    f"Raise the cap on the length: {_CAP}.",
    "Read ten cut responses: does one ever end? If not, look at the chat template and the token "
    "that ends a response.",
    "If the cap must stay, do not count cut responses as wrong (TRL "
    "`mask_truncated_completions=True`), or shape the length (verl's DAPO reward, "
    "`reward_model.overlong_buffer.enable=True`).",
)
MORE_AND_MORE_CUT = (
    f"Raise the cap before it binds ({_CAP}), or shape the length; with a loss that sums over "
    "tokens, lower the rate in proportion.",
)
EASIER = (
    "Take easier prompts, larger groups "
    f"({_GROUP}), or a start (supervised, or with hints) from which some responses are right.",
)
HARDER = (
    "Take harder prompts: these are solved. verl's `algorithm.filter_groups.enable=True` and "
    "groups drawn anew leave solved prompts out.",
)
WHICH_END = (
    "Find out what the reward {level} is. If it is the most that a response can get, take harder "
    "prompts; if the least, easier ones; if it is a part that all get (for the format, say), log "
    "the parts: the one that checks the answer gives no signal.",
)
LITTLE_SPREAD = (
    "Take prompts on which groups still have spread: harder ones where these are solved, easier "
    f"ones where nothing is right, or larger groups ({_GROUP}).",
)
NO_GRADIENT = ("A longer or shorter step changes nothing while no group has spread.",)
ANSWER_STUCK = (
    "Judge by the part that checks the answer (--success {part!r}): it has not moved. Give it "
    "more weight (TRL `reward_weights`), or take prompts on which some responses get it.",
)
CUT_IS_RIGHT = (
    "If a response that was cut should not count as correct, mend the verifier; --cut-counts says "
    "that it is meant.",
)
VERIFIER = (
    "Read twenty responses with the largest reward from the end of the run, before changing the "
    "optimization.",
    "Noise that depends on the reward alone only slows the run down; errors that depend on the "
    "response turn its direction.",
)
LEARNING = ("Nothing needs to change. Watch the length and the pressure.",)
WATCH = ("Keep the rate; watch what is listed against.",)
PARTS = ("Judge by the part that checks the answer: log it on its own.",)
KNOWN_PART = ("Judge by the part that checks the answer: --success {part!r}.",)
PLATEAU = (
    f"Halve the learning rate for a while ({_RATE}): if the {{noun}} rises, the run was hovering "
    "(moves too long for the gap).",
    f"If it creeps instead, the signal is small: harder or easier prompts, larger groups ({_GROUP})"
    ", or a longer step.",
)
MORE_ROWS = (
    "Run longer, log every step (TRL `logging_steps=1`), or average over more prompts in a step "
    "(TRL `gradient_accumulation_steps`, verl `data.train_batch_size`). If another column says "
    "more, judge by it: --success NAME for a part of the reward, --column reward=NAME.",
)
