"""Token problems against high precision, against enumeration and against sampling; the token bounds
on random trees.
"""

from itertools import product

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from rlvrlib import LogLinearBandit, MarkovTokens, TokenWindow, log_odds_gain, thresholds, unit
from rlvrlib.bandits import SoftmaxBandit
from rlvrlib.markov_tokens import bracket_chain, burst_chain, stopping_start, stopping_walk
from rlvrlib.tokens import NormalWindow

seeds = st.integers(0, 2**32 - 1)


def window_reference(length, low, high, theta):
    """Log-odds, gap and curvature by summing binomial terms in mpmath."""
    with mp.workdps(60):
        weights = [mp.binomial(length, k) * mp.exp(k * mp.mpf(theta)) for k in range(length + 1)]
        moments = []
        for inside in (True, False):
            counts = [k for k in range(length + 1) if (low <= k <= high) == inside]
            total = mp.fsum(weights[k] for k in counts)
            mean = mp.fsum(k * weights[k] for k in counts) / total
            moments.append(
                (total, mean, mp.fsum((k - mean) ** 2 * weights[k] for k in counts) / total)
            )
        (right, m1, v1), (wrong, m0, v0) = moments
        return float(mp.log(right / wrong)), float(m1 - m0), float(v0 - v1)


@pytest.mark.parametrize(
    ("length", "low", "high", "theta"),
    [
        (1, 1, 1, 0.3),
        (16, 5, 9, 0.3),
        (64, 40, 60, -3.0),
        (400, 0, 3, 5.0),
        (400, 180, 230, -0.2),
        (2000, 1300, 1500, 0.9),
        (64, 37, 52, 800.0),
        (64, 37, 52, -900.0),
        (400, 1, 399, 0.1),
        (1500, 1000, 1080, 0.44),
        (1500, 1000, 1080, 2.2),
    ],
)
def test_window_against_high_precision(length, low, high, theta):
    window, point = TokenWindow(length, low, high), np.array([theta])
    log_odds, gap, curvature = window_reference(length, low, high, theta)
    assert window.log_odds(point) == pytest.approx(log_odds, rel=1e-12, abs=1e-12)
    assert window.gradient_gap(point)[0] == pytest.approx(gap, rel=1e-10)
    assert window.curvature(point, np.ones(1)) == pytest.approx(curvature, rel=1e-9)
    gain = window_reference(length, low, high, theta + 0.01)[0] - log_odds
    assert log_odds_gain(window, point, np.ones(1), 0.01) == pytest.approx(
        gain, rel=1e-9, abs=1e-12
    )


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
@example(
    seed=1396573
)  # a failure rate of 5e-272, which SciPy's incomplete beta function gives as 9e-276
def test_tails_and_sums_agree(seed):
    """The window's own log-odds, gap and curvature against the sums over all arms that every bandit
    has.
    """
    rng = np.random.default_rng(seed)
    length = int(np.exp(rng.uniform(0, 8)))
    low, high = (int(edge) for edge in np.sort(rng.integers(0, length + 1, size=2)))
    window = TokenWindow(length, low, max(high - 1, low) if (low, high) == (0, length) else high)
    middle = np.log((low + high + 1) / (2 * length - low - high + 1))
    theta = (middle + rng.normal(size=20) * np.exp(rng.uniform(0, 7)) / np.sqrt(length))[:, None]
    log_odds, gap = window.log_odds_and_gap(theta)
    expected, slope = SoftmaxBandit.log_odds_and_gap(window, theta)
    bend = SoftmaxBandit.curvature(window, theta, np.ones(1))
    assert np.all(np.abs(log_odds - expected) < 1e-12 * (1 + np.abs(expected)))
    assert np.all(np.abs(gap - slope) < 1e-11 * (np.sqrt(length) + np.abs(slope)))
    assert np.all(
        np.abs(window.curvature(theta, np.ones(1)) - bend) < 1e-10 * (length + np.abs(bend))
    )
    assert window.log_odds(theta[0]) == pytest.approx(log_odds[0], rel=1e-14)
    assert window.gradient_gap(theta[0]).shape == (1,)


def test_a_stack_is_its_windows():
    """Lengths, edges and runs broadcast; also where one class is as rare as 1e-300."""
    length, low = np.array([[16], [64], [200]]), np.array([[4, 7], [30, 1], [150, 0]])
    high = np.array([[9, 16], [40, 2], [150, 180]])
    stack, theta = TokenWindow(length, low, high), np.array([-40.0, -0.5, 0.3, 25.0])
    runs = theta[:, None, None, None]
    log_odds, gap = stack.log_odds_and_gap(runs)
    bend = stack.curvature(runs, np.ones(1))
    law = np.broadcast_to(stack.log_probabilities(runs), (4, 3, 2, 201))
    gain = stack.log_odds_gain(runs, np.ones(1), 0.2)
    short, bounds = stack.length_normalized_gap(runs), stack.regularity(np.ones(1))
    assert log_odds.shape == bend.shape == (4, 3, 2) and gap.shape == (4, 3, 2, 1)
    for i, j in np.ndindex(3, 2):
        size = int(length[i, 0])
        one = TokenWindow(size, int(low[i, j]), int(high[i, j]))
        part = stack[i, j]
        assert (part.length, part.low, part.high) == (one.length, one.low, one.high)
        points = theta[:, None]
        assert log_odds[:, i, j] == pytest.approx(one.log_odds(points), rel=1e-13)
        assert gap[:, i, j] == pytest.approx(one.gradient_gap(points), rel=1e-12)
        assert bend[:, i, j] == pytest.approx(one.curvature(points, np.ones(1)), rel=1e-12)
        assert gain[:, i, j] == pytest.approx(log_odds_gain(one, points, np.ones(1), 0.2), rel=1e-9)
        assert short[:, i, j] == pytest.approx(gap[:, i, j] / size)
        assert law[:, i, j, : size + 1] == pytest.approx(one.log_probabilities(points), rel=1e-12)
        assert np.all(np.exp(law[:, i, j, size + 1 :]) == 0)
        assert stack.summit[i, j] == pytest.approx(one.summit, nan_ok=True)
        wrong = np.flatnonzero(~one.rewards)
        assert stack.wrong_feature_range([1.0])[i, j] == wrong[-1] - wrong[0]
        assert one.wrong_feature_range([-2.0]) == wrong[-1] - wrong[0]
        assert bounds.score_bound[i, 0] == size and bounds.score_lipschitz[i, 0] == size / 4


def test_samples_of_a_stack_follow_their_windows():
    stack = TokenWindow(np.array([8, 20]), np.array([3, 9]), np.array([5, 12]))
    theta, rng = np.array([[0.2], [-0.1]]), np.random.default_rng(5)
    rewards, lengths, scores = stack.sample(theta, 40_000, rng)
    assert np.all(lengths == [[8], [20]]) and scores.shape == (2, 40_000, 1)
    success = 1 / (1 + np.exp(-stack.log_odds(theta)))
    assert rewards.mean(axis=1) == pytest.approx(success, abs=0.01)
    assert np.var(scores[..., 0], axis=1) == pytest.approx(
        [8, 20] * (np.exp(theta) / (1 + np.exp(theta)) ** 2)[:, 0], rel=0.03
    )


def test_the_limit_of_long_responses():
    """Derivatives of the log-odds, far out too; and the window of a million tokens."""
    limit, x, step = NormalWindow(2.2, 0.46), np.linspace(-70, 70, 301)[:, None], 1e-4
    ahead, behind = (limit.log_odds(x + h) for h in (step, -step))
    assert limit.gradient_gap(x)[:, 0] == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)
    bend = (limit.gradient_gap(x - step) - limit.gradient_gap(x + step))[:, 0] / (2 * step)
    assert limit.curvature(x, 2 * np.ones(1)) == pytest.approx(4 * bend, rel=1e-6, abs=1e-6)
    window = TokenWindow.around(10**6, 0.7, 1.0)
    limit, x = window.limit, np.array([-6.0, 0.0, 2.0])
    assert limit.spread == pytest.approx(np.sqrt(0.21))
    assert limit.half_width == pytest.approx(1 / np.sqrt(0.21), rel=1e-3)
    theta, up = window.natural(x, window.middle), np.ones(1)
    assert window.log_odds(theta) == pytest.approx(limit.log_odds(x[:, None]), abs=0.02)
    assert window.gradient_gap(theta) / 1000 == pytest.approx(
        limit.gradient_gap(x[:, None]), abs=0.02
    )
    assert window.curvature(theta, up) / 10**6 == pytest.approx(
        limit.curvature(x[:, None], up), abs=0.02
    )


def test_around_is_the_open_interval():
    for length, center, half_width in (
        (256, 0.7, 1.0),
        (100, 0.7, 1.0),
        (16, 0.7, 2.0),
        (9, 0.1, 1),
    ):
        window = TokenWindow.around(length, center, half_width)
        counts = np.arange(1, length)
        inside = counts[np.abs(counts - center * length) < half_width * np.sqrt(length)]
        assert (window.low, window.high) == (inside[0], inside[-1])
    stack = TokenWindow.around([16, 64], 0.7, np.array([[1.0], [2.0]]))
    assert stack.low.tolist() == [[8, 37], [4, 29]] and stack.high.tolist() == [[15, 52], [15, 60]]


def test_a_window_that_holds_so_many_counts():
    for length, center, count in ((100, 0.7, 20), (256, 0.7, 32), (64, 0.45, 7), (81, 0.5, 1)):
        window, counts = TokenWindow.holding(length, center, count), np.arange(length + 1)
        away = counts - center * length
        inside = counts[(away >= -count / 2 - 1e-9) & (away < count / 2 - 1e-9)]
        assert len(inside) == count and (window.low, window.high) == (inside[0], inside[-1])
    assert TokenWindow.holding(16, 0.7, 12).high == 15


def test_summit_middle_and_natural_units():
    window = TokenWindow(64, 37, 52)
    assert window.max_length == window.length == 64
    assert window.gradient_gap(window.natural(0.0)) == pytest.approx(0, abs=1e-9)
    assert window.natural(2.0) - window.natural(0.0) == pytest.approx(2 / 8)
    assert window.natural([1.0, 2.0], window.middle).shape == (2, 1)
    even = TokenWindow(64, 30, 34)  # symmetric
    assert even.summit == pytest.approx(0, abs=1e-14) and even.middle == pytest.approx(0)
    assert TokenWindow(9, 0, 4).summit == -np.inf and TokenWindow(9, 4, 9).summit == np.inf


def test_reaching_log_odds_where_there_is_one_edge():
    for window, side in ((TokenWindow(16, 12, 16), -1), (TokenWindow(16, 0, 5), 1)):
        for wanted in (-40.0, 0.3, 30.0):
            assert window.log_odds(window.reaching(wanted, side)) == pytest.approx(wanted)


def test_reaching_log_odds_on_both_sides():
    window, wanted = TokenWindow(64, 37, 52), np.array([2.0, -1.0, -20.0, -700.0])
    for side in (-1, 1):
        theta = window.reaching(wanted, side)
        assert window.log_odds(theta) == pytest.approx(wanted, rel=1e-12)
        assert np.all(side * (theta - window.summit) > 0)
    stack = TokenWindow(64, np.array([30, 37]), np.array([34, 52]))
    assert stack.log_odds(stack.reaching(-3.0, 1)) == pytest.approx(-3)


def test_a_million_tokens():
    window = TokenWindow(10**6, 699_000, 701_000)
    theta = np.array([np.log(0.7 / 0.3)])
    below, above = (
        binom.cdf(698_999, 10**6, 0.7),
        binom.sf(701_000, 10**6, 0.7),
    )  # by the incomplete beta function
    expected = np.log1p(-below - above) - np.log(below + above)
    assert window.log_odds(theta) == pytest.approx(expected, rel=1e-9)
    assert abs(window.gradient_gap(theta)[0]) < 20


def random_chain(rng, *, vocabulary=None, length=None):
    vocabulary, states, dim = (
        vocabulary or int(rng.integers(2, 4)),
        int(rng.integers(2, 4)),
        int(rng.integers(1, 4)),
    )
    length = length or int(rng.integers(1, 6))
    for _ in range(100):
        base = rng.normal(size=(vocabulary + 1, vocabulary))
        base[rng.uniform(size=base.shape) < 0.1] = -np.inf
        base[:, rng.integers(vocabulary)] = 0.0
        features = rng.normal(size=(*base.shape, dim)) * np.exp(rng.uniform(-1, 1))
        automaton = rng.integers(states, size=(states, vocabulary))
        stop, cap = int(rng.integers(vocabulary)), bool(rng.integers(2))
        try:
            chain = MarkovTokens(
                base,
                features,
                stop,
                length,
                automaton,
                rng.integers(2, size=states),
                accept_at_cap=cap,
            )
        except ValueError:  # this verifier accepts all or none: draw another
            continue
        return chain, rng.normal(size=dim), unit(rng.normal(size=dim))
    raise AssertionError("no chain with correct and wrong responses was drawn")


def responses(chain, theta):
    """Every response: probability, score, length, reward; an enumeration that shares no code with
    the library.
    """
    logits = chain.base + chain.features @ theta
    moves = np.exp(logits - logits.max(axis=1, keepdims=True))
    moves /= moves.sum(axis=1, keepdims=True)
    mean = (moves[:, :, None] * chain.features).sum(axis=1)
    accepting, cut = chain._stopped[0], chain._cut[0]
    found = []

    def extend(last, state, probability, score, length):
        if length == chain.max_length:
            found.append((probability, score, length, cut[state]))
            return
        for token in np.flatnonzero(moves[last] > 0):
            chance, gain = (
                probability * moves[last, token],
                score + chain.features[last, token] - mean[last],
            )
            if token == chain.stop:
                found.append((chance, gain, length + 1, accepting[state]))
            else:
                extend(token, chain.automaton[state, token], chance, gain, length + 1)

    extend(moves.shape[1], 0, 1.0, np.zeros(chain.dim), 0)
    probability, score, length, reward = (np.array(column) for column in zip(*found, strict=True))
    return probability, score, length, reward.astype(bool)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_chain_lists_its_responses(seed):
    chain, theta, _ = random_chain(np.random.default_rng(seed))
    found, expected = chain.responses(theta), responses(chain, theta)
    order, other = (np.lexsort((r[0], *r[1].T)) for r in (found, expected))
    assert found[0][order] == pytest.approx(expected[0][other], abs=1e-14)
    assert found[1][order] == pytest.approx(expected[1][other], abs=1e-12)
    right = found[0][found[2]].sum()
    assert right == pytest.approx(expected[0][expected[3]].sum(), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_markov_chain_against_enumeration(seed):
    chain, theta, direction = random_chain(np.random.default_rng(seed))
    probability, score, length, reward = responses(chain, theta)
    right, wrong = probability[reward].sum(), probability[~reward].sum()
    assert right + wrong == pytest.approx(1, rel=1e-12)
    assert chain.log_odds(theta) == pytest.approx(np.log(right / wrong), rel=1e-10, abs=1e-10)

    def mean(values, chosen):
        return np.tensordot(probability[chosen] / probability[chosen].sum(), values[chosen], axes=1)

    scale = 1 + np.max(np.abs(score))
    gap = mean(score, reward) - mean(score, ~reward)
    assert np.max(np.abs(chain.gradient_gap(theta) - gap)) < 1e-10 * scale
    shortened = score / length[:, None]
    gap_len = mean(shortened, reward) - mean(shortened, ~reward)
    assert np.max(np.abs(chain.length_normalized_gap(theta) - gap_len)) < 1e-10 * scale
    for law, chosen in zip(chain.length_law(theta), (reward, ~reward), strict=True):
        expected = np.bincount(length[chosen], probability[chosen], minlength=chain.max_length + 1)[
            1:
        ]
        assert law == pytest.approx(expected / expected.sum(), rel=1e-10, abs=1e-12)
    # curvature: the responses as arms of a bandit whose log-probabilities are expanded to second
    # order
    step = 1e-4
    ends = [chain.log_odds(theta + sign * step * direction) for sign in (-1, 0, 1)]
    assert chain.curvature(theta, direction) == pytest.approx(
        -(ends[0] - 2 * ends[1] + ends[2]) / step**2, rel=1e-4, abs=1e-4 * scale**2
    )
    bounds = chain.regularity(direction)
    turned = np.stack([direction, -direction, np.roll(direction, 1)])
    assert chain.regularity(turned).token_range == pytest.approx(
        [float(chain.regularity(one).token_range) for one in turned]
    )
    assert np.all(np.abs(score @ direction) <= bounds.score_bound * (1 + 1e-12))


def test_curvature_of_a_chain_is_that_of_its_window():
    """Tokens 0 and 1 that do not depend on the past; a stop token that comes only at the cap."""
    length, low, high = 12, 4, 7
    base = np.array([[0.0, 0.0, -np.inf]] * 4)
    base[2] = 0.0  # never reached; a chain must be able to stop
    features = np.zeros((4, 3, 1))
    features[:, 1, 0] = 1.0
    counting = np.minimum(np.arange(length + 1)[:, None] + [0, 1, 0], length)
    accepting = (np.arange(length + 1) >= low) & (np.arange(length + 1) <= high)
    chain = MarkovTokens(base, features, 2, length, counting, accepting, accept_at_cap=True)
    window = TokenWindow(length, low, high)
    for theta in (np.array([-0.7]), np.array([0.0]), np.array([1.3])):
        assert chain.log_odds(theta) == pytest.approx(window.log_odds(theta), rel=1e-11)
        assert chain.gradient_gap(theta) == pytest.approx(
            window.gradient_gap(theta), rel=1e-10, abs=1e-11
        )
        assert chain.curvature(theta, np.ones(1)) == pytest.approx(
            window.curvature(theta, np.ones(1)), rel=1e-9
        )
        assert chain.length_normalized_gap(theta) == pytest.approx(
            window.gradient_gap(theta) / length, rel=1e-10, abs=1e-12
        )


def test_burst_chain():
    """Any token is open with the same probability, neighbours' openness correlates by rho, and the
    sum of the open ones decides.
    """
    chain = burst_chain(5, 2, 0.6, 0.3)
    moves = chain.transitions([0.0])
    opens = moves[..., 1] + moves[..., 2]
    assert opens[-1] == pytest.approx(0.3)
    after = opens[[0, 1, 2]]
    assert after == pytest.approx([0.12, 0.72, 0.72])  # (1-rho) share, and rho more after open
    assert 0.7 * after[0] + 0.3 * after[1] == pytest.approx(0.3)
    law = np.zeros(11)  # of the sum, by the states of walks of five tokens
    for path in product(range(3), repeat=5):
        chance = np.prod([moves[(-1, *path[:-1])[t], token] for t, token in enumerate(path)])
        law[5 + sum((0, -1, 1)[token] for token in path)] += chance
    failure = 1 / (1 + np.exp(chain.log_odds([0.0])))
    assert failure == pytest.approx(law[:3].sum() + law[8:].sum(), rel=1e-12)


@pytest.mark.parametrize(("share", "ratio"), [(0.5, 1.0), (0.1, 6.0)])
def test_stopping_walk_has_the_mean_length_it_is_given(share, ratio):
    cap, mean = 40, 5.0
    start = stopping_start(mean, cap, share, ratio)
    right, wrong = stopping_walk(3, cap).length_law(start)
    success = 1 / (1 + np.exp(-stopping_walk(3, cap).log_odds(start)))
    law = success * right + (1 - success) * wrong
    assert law @ np.arange(1, cap + 1) == pytest.approx(mean, rel=1e-9)


def test_stopping_walk_of_a_fixed_length():
    """Fair steps, six of them: three or more from home is 1 - (20 + 2 * 15) / 64."""
    chain, start = stopping_walk(2, 6), stopping_start(6.0, 6)
    assert 1 / (1 + np.exp(chain.log_odds(start))) == pytest.approx(14 / 64, rel=1e-6)


def test_bracket_chain():
    """Classes of a vocabulary may be merged; with half as many tokens of a class each, or not."""
    large, small = bracket_chain(16, 11, 0.5), bracket_chain(16, 4, 0.5)
    theta = np.array([-0.5, 0.0, 0.8])[:, None]
    for name in ("log_odds", "gradient_gap", "length_normalized_gap"):
        assert getattr(large, name)(theta) == pytest.approx(getattr(small, name)(theta), abs=1e-10)
    moves = bracket_chain(16).transitions([0.0])
    assert moves == pytest.approx(np.tile([0.375, 0.375, 0.1875, 0.0625], (5, 1)))
    # at a cap of 4 only four openings or four closings leave +-3
    failure = 1 / (1 + np.exp(bracket_chain(4).log_odds([0.0])))
    assert failure == pytest.approx(2 * 0.3**4, rel=1e-12)


def test_samples_follow_the_exact_law():
    rng = np.random.default_rng(8)
    chain, theta, _ = random_chain(rng, vocabulary=3, length=5)
    window = TokenWindow(20, 8, 12)
    for problem, point in ((chain, theta), (window, np.array([0.2]))):
        rewards, lengths, scores = problem.sample(np.stack([point, point]), 40_000, rng)
        assert rewards.shape == lengths.shape == (2, 40_000) and scores.shape == (
            2,
            40_000,
            problem.dim,
        )
        success = 1 / (1 + np.exp(-problem.log_odds(point)))
        assert rewards.mean(axis=1) == pytest.approx(success, abs=5 * np.sqrt(0.25 / 40_000))
        assert np.max(np.abs(scores.mean(axis=1))) < 5 * scores.std() / 200
        gap = scores[rewards == 1].mean(axis=0) - scores[rewards == 0].mean(axis=0)
        share = min(success, 1 - success)
        assert np.max(np.abs(gap - problem.gradient_gap(point))) < 8 * scores.std() / np.sqrt(
            80_000 * share
        )


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_failure_fall_and_success_rise_on_random_trees(seed):
    chain, theta, direction = random_chain(np.random.default_rng(seed))
    slope = float(chain.gradient_gap(theta) @ direction)
    direction, slope = direction * np.sign(slope or 1), abs(slope)
    bounds, log_odds = chain.regularity(direction), chain.log_odds(theta)
    for step in (
        thresholds.failure_fall(slope, log_odds, chain.max_length, bounds.token_range),
        thresholds.success_rise(slope, log_odds, bounds.score_lipschitz),
        thresholds.trajectory(slope, bounds.score_bound, bounds.score_lipschitz),
    ):
        if np.isfinite(step):
            for share in (0.1, 0.5, 0.9, 0.999):
                assert log_odds_gain(chain, theta, direction, share * step) >= -1e-10


def centred_window(length, width):
    """The window ``|ones - T/2 - 0.15 sqrt(T)| < width sqrt(T) / 2``."""
    counts = np.arange(length + 1)
    inside = np.flatnonzero(
        np.abs(counts - length / 2 - 0.15 * np.sqrt(length)) < width * np.sqrt(length) / 2
    )
    return TokenWindow(length, int(inside[0]), int(inside[-1]))


def ratio_to_threshold(window, threshold=thresholds.failure_fall):
    theta, slope = np.zeros(1), window.gradient_gap(np.zeros(1))[0]
    direction, log_odds = np.array([np.sign(slope)]), window.log_odds(np.zeros(1))
    best = max(
        threshold(abs(slope), log_odds, window.length, 1.0),
        thresholds.success_rise(abs(slope), log_odds, window.length / 4),
    )
    return thresholds.exact(window, theta, direction) / best


@pytest.mark.parametrize("length", [16, 64, 1024, 4096])
@pytest.mark.parametrize("width", [0.7, 1.5, 2.5, 3.5])
def test_the_token_thresholds_are_within_a_small_factor(length, width):
    assert 1 <= ratio_to_threshold(centred_window(length, width)) <= 2.6


def test_a_dropped_logarithm_and_a_wrong_exponent_are_seen():
    """Negative controls: without the logarithm, or with T^(1/2) for T, the threshold passes the
    exact step.
    """

    def no_logarithm(slope, log_odds, length, spread):
        failure = 1 / (1 + np.exp(log_odds))
        return 2 * (1 - failure) * slope / (length * spread**2 / 4 * min(1 / failure, 2))

    def wrong_exponent(slope, log_odds, length, spread):
        return thresholds.failure_fall(slope, log_odds, np.sqrt(length), spread)

    narrow = centred_window(1024, 6.0)
    assert ratio_to_threshold(narrow) >= 1
    assert ratio_to_threshold(narrow, no_logarithm) < 1
    assert ratio_to_threshold(centred_window(1024, 2.5), wrong_exponent) < 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenWindow(0, 0, 0), "length must be at least 1"),
        (lambda: NormalWindow(0.0), "half_width must be positive"),
        (lambda: bracket_chain(16, 3), "vocabulary must be at least 4 and whole, got 3"),
        (lambda: TokenWindow(8.5, 5, 6), "length must be at least 1 and whole, got 8.5"),
        (lambda: TokenWindow(8, [2, 5], 4), "correct and wrong counts from 0 to 8, got 5 and 4"),
        (
            lambda: TokenWindow(8, 3, 5).reaching(9.0, 1),
            "log_odds must be below those of the summit",
        ),
        (
            lambda: TokenWindow(8, 0, 5).reaching(0.0, -1),
            "on a side of it on which they are attained",
        ),
        (lambda: TokenWindow(8, 5, 4), "low and high must leave"),
        (lambda: TokenWindow(8, 0, 8), "low and high must leave"),
        (
            lambda: TokenWindow(8, 2, 4).sample([0.0], 1, np.random.default_rng(0)),
            "group_size must be at least 2",
        ),
        (
            lambda: MarkovTokens(np.zeros((3, 3)), np.zeros((4, 3, 1)), 2, 4, [[0, 0, 0]], [1]),
            "base and features must",
        ),
        (lambda: chain_with(stop=3), "stop must be a token"),
        (lambda: chain_with(max_length=0), "max_length must be at least 1"),
        (lambda: chain_with(automaton=[[0, 2, 0], [0, 1, 0]]), "automaton must have shape"),
        (lambda: chain_with(accepting=[1, 1], accept_at_cap=True), "accepts all or none"),
        (lambda: chain_with(accepting=[0, 0]), "accepts all or none"),
        (lambda: chain_with(base=np.array([[0, 0, -np.inf]] * 4)), "cannot stop"),
        (lambda: chain_with(base=np.full((4, 3), np.nan)), "base must be finite or -inf"),
        (lambda: chain_with(base=np.array([[0.0, 0, 0]] * 3 + [[-np.inf] * 3])), "row of -inf"),
        (lambda: chain_with().log_odds(np.zeros(2)), "theta must have last axis 1"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def chain_with(**changes):
    arguments = {
        "base": np.zeros((4, 3)),
        "features": np.ones((4, 3, 1)),
        "stop": 2,
        "max_length": 4,
        "automaton": [[0, 1, 0], [1, 0, 1]],
        "accepting": [0, 1],
    } | changes
    return MarkovTokens(**arguments)


def test_a_window_is_a_log_linear_bandit():
    window = TokenWindow(9, 3, 5)
    counts = np.arange(10.0)
    prior = [float(mp.log(mp.binomial(9, k))) for k in range(10)]
    bandit = LogLinearBandit(counts[:, None], window.rewards, prior)
    theta = np.linspace(-3, 3, 7)[:, None]
    assert window.log_odds(theta) == pytest.approx(bandit.log_odds(theta), rel=1e-12, abs=1e-13)
    assert window.gradient_gap(theta) == pytest.approx(
        bandit.gradient_gap(theta), rel=1e-11, abs=1e-12
    )
    assert window.log_probabilities(theta) == pytest.approx(
        bandit.log_probabilities(theta), rel=1e-11
    )
