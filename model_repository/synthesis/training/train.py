"""Train the synthesis model on the corpus of collect.py and score it on voices outside its training data.

    python train.py CORPUS        (needs numpy, soundfile, soxr and this project's inference_service)

writes ../1/weights.json and scores.json. Recordings of both classes go through the same `CHANNELS`, because
loudness, noise, telephone band and codec must not reveal the class. For the score, each synthesis technique
together with each human speaker is held out in turn, and the model is trained on the others.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
import soxr

HERE = Path(__file__).parent
MODEL = HERE.parent / "1"
sys.path.insert(0, str(MODEL))  # the features are the model's own

from features import features  # noqa: E402

from inference_service.audio.mel import SAMPLE_RATE, log_mel  # noqa: E402

L2 = 20.0  # strength of the penalty, in units of one recording
STEPS = 60


def main(corpus: Path) -> None:
    rows, labels, groups, units = [], [], [], []
    for path in sorted(corpus.rglob("*.wav")):
        kind, group = path.parts[-3:-1]
        samples, rate = soundfile.read(path, always_2d=True)
        for channel in CHANNELS:
            # Every recording gets the band of a telephone, because many human ones have only that.
            narrow = soxr.resample(samples.mean(axis=1), rate, 8000)
            values = features(log_mel(soxr.resample(channel(narrow), 8000, SAMPLE_RATE).astype(np.float32)))
            if values is not None:
                rows.append(values)
                labels.append(kind == "synthetic")
                groups.append(group)
                units.append(str(path))
    table, labels, groups, units = np.array(rows), np.array(labels), np.array(groups), np.array(units)

    scores = held_out(table, labels, groups)
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(scores, indent=2))
    fitted = fit(table, labels, groups)
    rounded = {key: np.round(value, 5).tolist() for key, value in fitted.items()}
    (MODEL / "weights.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")


def _mulaw(samples):
    coded = np.sign(samples) * np.log1p(255 * np.abs(samples).clip(0, 1)) / np.log(256)
    coded = np.round(coded * 127) / 127
    return np.sign(coded) * (256 ** np.abs(coded) - 1) / 255


def _noisy(samples, decibels=25):
    noise = np.random.default_rng(len(samples)).normal(
        0, samples.std() * 10 ** (-decibels / 20), len(samples)
    )
    return samples + noise


CHANNELS = [lambda x: x, lambda x: _mulaw(0.3 * x / (np.abs(x).max() + 1e-9)), _noisy]


def fit(table, labels, groups):
    """Ridge-penalised logistic regression by Newton's method; both classes weigh the same."""
    mean, scale = table.mean(axis=0), table.std(axis=0) + 1e-6
    x = np.hstack([np.clip((table - mean) / scale, -4, 4), np.ones((len(table), 1))])
    weight = np.zeros(len(table))
    for kind in (False, True):
        # Square roots: a technique with ten recordings should count, but not as much as one with a hundred.
        counts = {group: (groups == group).sum() for group in set(groups[labels == kind])}
        total = sum(np.sqrt(count) for count in counts.values())
        for group, count in counts.items():
            weight[groups == group] = len(table) / 2 * np.sqrt(count) / total / count
    theta = np.zeros(x.shape[1])
    penalty = np.full(x.shape[1], L2)
    penalty[-1] = 0
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(x @ theta)))
        gradient = x.T @ (weight * (p - labels)) + penalty * theta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + np.diag(penalty + 1e-6)
        theta -= np.linalg.solve(hessian, gradient)
    return {"mean": mean, "scale": scale, "coefficients": theta[:-1], "intercept": theta[-1]}


def predict(fitted, table):
    standardised = np.clip((table - fitted["mean"]) / fitted["scale"], -4, 4)
    return 1 / (1 + np.exp(-(standardised @ fitted["coefficients"] + fitted["intercept"])))


def held_out(table, labels, groups):
    """Accuracy of each group over every split that held it out, and the mean of each class."""
    real, synthetic = sorted(set(groups[~labels])), sorted(set(groups[labels]))
    right = {group: [] for group in real + synthetic}
    for pair in product(real, synthetic):
        test = np.isin(groups, pair)
        fitted = fit(table[~test], labels[~test], groups[~test])
        for group in pair:
            rows = groups == group
            right[group].append(np.mean((predict(fitted, table[rows]) > 0.5) == labels[rows]))
    accuracy = {group: round(float(np.mean(values)), 3) for group, values in right.items()}
    balanced = (np.mean([accuracy[g] for g in real]) + np.mean([accuracy[g] for g in synthetic])) / 2
    return {
        "held_out_balanced_accuracy": round(float(balanced), 3),
        "human_speakers_held_out": {g: accuracy[g] for g in real},
        "synthesis_techniques_held_out": {g: accuracy[g] for g in synthetic},
        "recordings": {g: int((groups == g).sum() // len(CHANNELS)) for g in real + synthetic},
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", type=Path)
    main(arguments.parse_args().corpus)
