"""The diagnosis against runs whose truth is known: real logs (RLVR_LOGS), sampled runs, and made-up
rows.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import log_corpus as corpus
import numpy as np
import pytest
from scipy.stats import norm

from rlvrlib import Constant, TokenWindow, ascend, methods, thresholds
from rlvrlib.directions import PolicyGradient
from rlvrlib.practice import change_points, pressure
from rlvrlib.practice.diagnosis import diagnose
from rlvrlib.practice.run_log import RunLog, from_rows, read_log
from rlvrlib.practice.sampled_runs import sampled_runs
from rlvrlib.practice.verdicts import (
    COLLAPSE,
    FALL,
    FALLEN,
    LEARNING,
    PLATEAU,
    RECOVERY,
    STARVED,
    TRUNCATION,
    UNDECIDED,
    VERIFIER,
)

# ---- real logs

LOGS = Path(os.environ.get("RLVR_LOGS", ""))
real = pytest.mark.skipif(
    not os.environ.get("RLVR_LOGS") or not LOGS.is_dir(),
    reason="RLVR_LOGS does not name the folder with the real training logs (they are not part of "
    "this repository)",
)
REPLAYED = "martingale/trl_grpo_vllm_a10g_16steps_seed0_t1.0_replay1of4_replay"
FALLING = {
    "rasbt/ch07_7_5_plus_kl_metrics.csv": COLLAPSE,
    "rasbt/02_rlvr_grpo_scripts_intro_rlvr_grpo_original_no_kl_metrics.csv": FALL,
    "rasbt/ch07_ch06_rlvr_grpo_original_no_kl_metrics.csv": RECOVERY,
}
STANDING = {
    "rasbt/ch07_7_4_plus_clip_ratio_metrics.csv": LEARNING,
    "rasbt/ch07_7_6_plus_format_reward_metrics.csv": LEARNING,
    "martingale/trl_grpo_vllm_a10g_16steps_seed0_t0.7.trainer_log.json": STARVED,
    "martingale/trl_grpo_vllm_a10g_16steps_seed0_t1.0.trainer_log.json": UNDECIDED,
    "martingale/trl_grpo_vllm_a10g_16steps_seed0_t1.0_fp32_probe.trainer_log.json": UNDECIDED,
    f"{REPLAYED}.trainer_log.json": UNDECIDED,
    "martingale/verl_grpo_vllm_t4_8steps_seed0.trainer_log.json": UNDECIDED,
}


def backwards(log: RunLog) -> RunLog:
    return replace(
        log,
        values={name: value[::-1] for name, value in log.values.items()},
        components={name: value[::-1] for name, value in log.components.items()},
    )


@real
@pytest.mark.parametrize("name", [*FALLING, *STANDING])
def test_real_logs_get_their_verdict(name):
    log = read_log(LOGS / name)
    found = diagnose(log)
    assert found.verdict == {**FALLING, **STANDING}[name]
    if name in FALLING:
        assert found.fell is not None and found.warning <= found.halved + 15
        assert diagnose(backwards(log)).verdict not in FALLEN


@real
def test_a_sum_of_rewards_is_not_taken_for_a_success_rate():
    found = diagnose(read_log(LOGS / "rasbt/ch07_7_6_plus_format_reward_metrics.csv"))
    assert not found.signals.is_rate and "success rate" not in found.headline


@real
def test_an_infinite_gradient_norm_is_listed():
    log = read_log(LOGS / "martingale/verl_grpo_vllm_t4_8steps_seed0.trainer_log.json")
    assert any("actor/grad_norm" in note and "infinite" in note for note in log.notes)


@real
def test_the_table_of_the_book_is_what_the_logs_give():
    page = (Path(__file__).parent.parent / "book" / "diagnose_a_run.md").read_text(encoding="utf-8")
    section = page.partition("## On real logs")[2].partition("Three other tools")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    seen = 0
    for run, _, verdict, warning, halved in rows:
        start = run.split("`")[1]
        matching = [name for name in {**FALLING, **STANDING} if Path(name).name.startswith(start)]
        assert matching, run
        for name in matching:
            found = diagnose(read_log(LOGS / name))
            assert found.verdict == verdict
            assert ("none" if found.warning is None else f"{found.warning:g}") == warning
            assert ("never" if found.halved is None else f"{found.halved:g}") == halved
        seen += len(matching)
    assert seen == len(FALLING) + len(STANDING)


@real
def test_the_sums_of_the_book_are_those_of_the_logs():
    page = (Path(__file__).parent.parent / "book" / "diagnose_a_run.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"\| `(\w[\w.]+)` \| .* \| `([0-9a-f]{16})` \|", page))
    for name in {**FALLING, **STANDING}:
        (run,) = (run for run in named if Path(name).name.startswith((f"{run}_", f"{run}.")))
        found = hashlib.sha256((LOGS / name).read_bytes()).hexdigest()
        assert found.startswith(named.pop(run))
    assert not named


# ---- made-up rows


def verdict(level, count=200, **options):
    return diagnose(from_rows(corpus.rows(count, level=level)), **options)


def test_simple_courses_get_their_verdict():
    assert verdict(lambda k: 0.3 + 0.4 * k).verdict == LEARNING
    assert verdict(lambda k: 0.5 + 0 * k).verdict == PLATEAU
    assert verdict(lambda k: np.where(k < 0.6, 0.7, 0.2)).verdict == FALL
    assert (
        verdict(lambda k: np.where(k < 0.4, 0.7, np.where(k < 0.7, 0.1, 0.4))).verdict == RECOVERY
    )
    assert (
        verdict(lambda k: np.where(k < 0.4, 0.5, np.where(k < 0.6, 0.1, 0.7))).verdict == LEARNING
    )
    assert verdict(lambda k: 0.3 + 0.4 * k, count=19).verdict == UNDECIDED


def test_a_collapse_is_absorbing_only_without_spread():
    rows = corpus.rows(200, level=lambda k: np.where(k < 0.5, 0.7, 0.0))
    assert (
        diagnose(from_rows(rows)).verdict == FALL
    )  # the log says that three quarters of the groups have spread
    rows = [{**row, "frac_reward_zero_std": 1.0 if row["reward"] == 0 else 0.25} for row in rows]
    found = diagnose(from_rows(rows))
    assert found.verdict == COLLAPSE and found.warning < found.halved


def test_few_noisy_rows_cannot_decide():
    rows = [{"step": k, "reward": float(k % 5 == 0)} for k in range(25)]
    assert diagnose(from_rows(rows)).verdict == UNDECIDED


def test_cut_responses_explain_failures_or_count_as_correct():
    flat = corpus.rows(200, level=lambda k: 0.5 + 0 * k)
    some, most = (
        from_rows([{**row, "completions/clipped_ratio": cut} for row in flat]) for cut in (0.4, 0.8)
    )
    assert diagnose(some).verdict == TRUNCATION
    found, meant = diagnose(most), diagnose(most, cut_counts=True)
    assert found.verdict == meant.verdict == PLATEAU and not meant.against
    assert "add up to 1.3" in found.against[-1] and "--cut-counts" in found.advice[-1]


def test_an_evaluation_that_falls_makes_the_verifier_suspect():
    rows = corpus.rows(200)
    for row in rows[::20]:
        row["eval_acc"] = 0.6 - row["step"] / 500
    found = diagnose(from_rows(rows))
    assert found.verdict == VERIFIER and "evaluation fell" in found.supports[0]


def test_the_rate_may_be_given():
    rows = [
        {key: value for key, value in row.items() if key != "learning_rate"}
        for row in corpus.rows(100)
    ]
    assert any("no learning rate" in note for note in diagnose(from_rows(rows)).notes)
    assert not any(
        "no learning rate" in note for note in diagnose(from_rows(rows), rate=1e-6).notes
    )
    assert any(
        "not the one given" in note
        for note in diagnose(from_rows(corpus.rows(100)), rate=1e-6).notes
    )
    with pytest.raises(ValueError, match="rate must be positive"):
        diagnose(from_rows(rows), rate=-1.0)


def test_the_part_that_checks_the_answer_is_the_success_rate():
    rows = [
        {
            **row,
            "reward": row["reward"] + 1,
            "rewards/accuracy_reward/mean": row["reward"],
            "rewards/format/mean": 1.0,
        }
        for row in corpus.rows(100)
    ]
    found = diagnose(from_rows(rows))
    assert (
        found.signals.is_rate
        and "accuracy_reward" in found.signals.reward.source
        and found.verdict == LEARNING
    )
    assert not diagnose(
        from_rows([{**row, "reward": 1.5 * row["reward"]} for row in corpus.rows(100)])
    ).signals.is_rate
    with pytest.raises(ValueError, match="success must name a part"):
        diagnose(from_rows(rows), success="speed")


def test_rewards_of_minus_one_and_one():
    rows = [{**row, "reward": 2 * row["reward"] - 1} for row in corpus.rows(100)]
    assert not diagnose(from_rows(rows)).signals.is_rate
    found = diagnose(from_rows(rows), reward_range=(-1, 1))
    assert found.signals.is_rate
    np.testing.assert_allclose(found.signals.success, [(row["reward"] + 1) / 2 for row in rows])
    with pytest.raises(ValueError, match="reward_range must hold all rewards"):
        diagnose(from_rows(rows), reward_range=(0, 1))


# ---- sampled runs


def test_sampled_runs_follow_the_mean_update():
    """The mean of many sampled first steps is the exact update of finite groups."""
    problem, theta = TokenWindow(16, 9, 13), np.array([0.1])
    runs = sampled_runs(
        problem, theta, 1e-6, 1, num_runs=4000, rng=np.random.default_rng(0), groups_per_step=2
    )
    norms = np.array([rows[0]["grad_norm"] for rows in runs.logs])
    success = 1 / (1 + np.exp(-problem.log_odds(theta)))
    multiplier = methods.multiplier("grpo", success, 8) * np.sqrt(7 / 8)
    exact = float(multiplier * problem.gradient_gap(theta)[0] / 16)
    assert norms.mean() >= exact  # |x| on average is at least |mean x|
    rewards = np.array([rows[0]["reward"] for rows in runs.logs])
    assert abs(rewards.mean() - success) < 4 * np.sqrt(success * (1 - success) / (16 * 4000))
    np.testing.assert_allclose(runs.success_rate[:, 0], success)


def test_sampled_collapses_are_warned_of_and_stable_runs_are_not():
    problem = TokenWindow(64, 37, 52)
    start = np.array([0.3])
    stable = sampled_runs(problem, start, 3.0, 150, num_runs=20, rng=np.random.default_rng(1))
    falling = sampled_runs(
        problem,
        start,
        np.repeat([3.0, 90.0], 75),
        150,
        num_runs=20,
        rng=np.random.default_rng(2),
    )
    assert all(diagnose(from_rows(rows)).warning is None for rows in stable.logs)
    for rows, truth in zip(falling.logs, falling.success_rate, strict=True):
        found = diagnose(from_rows(rows))
        assert truth[-1] < 0.1 and found.verdict in FALLEN
        assert 75 < found.warning < found.halved


def test_sampled_runs_take_one_rate_for_each_step():
    problem, start = TokenWindow(16, 9, 13), np.array([0.1])
    one = sampled_runs(problem, start, 2.0, 6, num_runs=3, rng=np.random.default_rng(3))
    each = sampled_runs(
        problem, start, np.full(6, 2.0), 6, num_runs=3, rng=np.random.default_rng(3)
    )
    assert one.logs == each.logs
    with pytest.raises(ValueError, match=r"rate must be .* each of 6 steps, got shape \(5,\)"):
        sampled_runs(problem, start, np.ones(5), 6, num_runs=3, rng=np.random.default_rng(3))


# ---- change points


def test_constant_noise_is_split_at_the_level():
    rng = np.random.default_rng(0)
    split = [
        len(change_points.segments(rng.normal(size=100), rng, level=0.05, permutations=99)) > 1
        for _ in range(400)
    ]
    assert abs(np.mean(split) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)


def test_a_change_is_found_where_it_is():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 300), rng.normal(3, 1, 200)])
    parts = change_points.segments(values, rng)
    assert len(parts) == 2 and abs(parts[0].stop - 300) <= 3
    assert parts[0].mean == pytest.approx(values[: parts[0].stop].mean())
    long = np.repeat(values, 100) + rng.normal(0, 0.1, 50_000)
    assert min(abs(part.stop - 30_000) for part in change_points.segments(long, rng)) <= 200


def test_a_rise_within_a_few_rows_is_learning():
    rng = np.random.default_rng(3)
    values = np.concatenate([[0.12, 0.25, 0.25, 0.31, 0.5], rng.binomial(16, 0.88, 19) / 16])
    assert (
        diagnose(
            from_rows([{"step": k + 1, "reward": float(value)} for k, value in enumerate(values)])
        ).verdict
        == LEARNING
    )


def test_halved_is_the_first_row_below_half():
    values = np.concatenate([np.full(50, 0.8), np.full(50, 0.0)])
    assert (
        change_points.halved(values) == 50 + 12
    )  # 12 of 25 rows are left at 0.8: 0.384 < 0.4, with 13 it was 0.416
    assert change_points.halved(values[::-1]) is None and change_points.halved(values[:10]) is None


# ---- pressure


def test_the_longest_guarantee_is_that_of_the_theorems():
    for success in (0.01, 0.3, 0.9, 0.999):
        length, token_range, alignment = 4000, 0.7, 0.2
        variance = length * token_range**2 / 4
        log_odds = np.log(success / (1 - success))
        token = max(
            thresholds.success_rise(alignment, log_odds, variance),
            thresholds.sharper_failure_fall(alignment, log_odds, length, token_range),
        )
        angle = thresholds.angle(
            alignment, log_odds, length, token_range
        )  # the pressure has its limit for long responses
        longest = np.array(
            [thresholds.longest_guarantee(success, size) for size in (np.inf, length)]
        )
        measured = longest * alignment / variance
        assert measured[0] == pytest.approx(max(token, angle), rel=0.03)
        assert measured[1] == pytest.approx(max(token, angle), rel=1e-12)


def constant_log(count=200, **changes):
    rows = corpus.rows(count, level=lambda k: 0.5 + 0 * k)
    half = count // 2
    return from_rows(
        [
            {**row, **{key: row[key] * factor for key, factor in changes.items()}}
            if k >= half
            else row
            for k, row in enumerate(rows)
        ]
    )


def measure(log, **options):
    rows, options = np.arange(len(log.step)), {"optimizer": "gradient", **options}
    return pressure.threshold_pressure(log, rows, log["reward"], **options)


def test_pressure_factors_multiply_and_respond():
    log = constant_log(**{"learning_rate": 3.0, "completions/mean_length": 2.0})
    found = measure(log, method="reinforce")
    assert set(found.factors) == {"rate", "length", "success rate"}
    np.testing.assert_allclose(found.total, np.sum(list(found.factors.values()), axis=0))
    assert found.factors["rate"][-1] == pytest.approx(np.log(3))
    assert abs(found.factors["length"][-1] - np.log(2)) < 0.1
    assert found.total[found.reference] == 0 and found.error[found.reference] == 0
    normalized = measure(log, method="grpo")
    assert np.all(normalized.factors["length"] == 0)
    summed = measure(log, method="grpo", aggregation="sum")
    np.testing.assert_allclose(summed.factors["length"], found.factors["length"])


def test_with_adam_the_length_counts_whatever_the_loss_divides_by():
    log = constant_log(**{"learning_rate": 3.0, "completions/mean_length": 2.0})
    found = [measure(log, optimizer="adam", method=method) for method in ("grpo", "reinforce")]
    np.testing.assert_allclose(found[0].total, found[1].total)
    assert found[0].factors["rate"][-1] == pytest.approx(np.log(3))
    assert abs(found[0].factors["length"][-1] - np.log(2)) < 0.1
    rate = np.array([0.2, 0.5])
    half = np.repeat(rate, 100)
    steps = measure(from_rows([{"step": k, "reward": v} for k, v in enumerate(half)]),
        optimizer="adam", reference=(0, 50))
    guarantee = thresholds.longest_guarantee(rate)
    assert steps.total[-1] == pytest.approx(np.log(guarantee[0] / guarantee[1]))
    assert any("AdamW" in note for note in measure(log, optimizer=None).notes)
    with pytest.raises(ValueError, match="optimizer must be one of"):
        measure(log, optimizer="lion")


def test_the_error_of_the_pressure_covers():
    """Of windows of constant runs about 95% lie within two standard errors of no change."""
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(60):
        log = from_rows(corpus.rows(200, seed=seed, level=lambda k: 0.5 + 0 * k))
        found = measure(log, method="reinforce", reference=(1, 10))
        others = np.arange(len(found.total)) != found.reference
        inside += list(np.abs(found.total[others]) < 2 * found.error[others])
    assert rng is not None and np.mean(inside) > norm.cdf(2) - norm.cdf(-2) - 0.06


def test_pressure_says_what_it_assumes():
    log = from_rows([{"step": k, "reward": 0.5} for k in range(40)])
    notes = " ".join(measure(log).notes)
    assert "GRPO assumed" in notes and "no learning rate" in notes and "no response length" in notes
    with pytest.raises(ValueError, match="reference must hold steps"):
        measure(log, reference=(1000, 2000))
    with pytest.raises(ValueError, match="aggregation must be one of"):
        measure(log, aggregation="median")
    with pytest.raises(ValueError, match="method must be one of"):
        measure(log, method="ppo")


@pytest.mark.parametrize("method", ["reinforce", "grpo"])
def test_the_logistic_law_holds_for_exact_small_steps(method):
    problem = TokenWindow(32, 18, 28)
    rate, steps = {"reinforce": 1e-3, "grpo": 3e-2}[method], 400
    run = ascend(problem, np.array([0.0]), PolicyGradient(method), Constant(rate), steps)
    success = run.success_rate[:-1]
    rows = [
        {
            "step": k,
            "reward": float(success[k]),
            "grad_norm": float(run.step_size[k] / rate),
            "learning_rate": rate,
            "completions/mean_length": 32.0,
        }
        for k in range(steps)
    ]
    log = from_rows(rows)
    gain = pressure.logistic_law(log, np.arange(steps), success, method)
    measured = run.log_odds[:-1] - run.log_odds[0]
    assert measured[-1] > 1
    np.testing.assert_allclose(gain[-1], measured[-1], rtol=0.01)
    with pytest.raises(ValueError, match="log must have the learning rate"):
        pressure.logistic_law(from_rows([{"step": 1, "reward": 0.5}]), [0], [0.5], method)


def test_a_gap_in_the_rate_is_filled_from_the_windows_beside_it():
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    means, notes = pressure._window_means(
        np.array([1.0, 1.0, np.nan, np.nan, 3.0, 3.0]), parts, "learning rate", ""
    )
    assert list(means) == [1.0, 2.0, 3.0] and "filled from its neighbours" in notes[0]
