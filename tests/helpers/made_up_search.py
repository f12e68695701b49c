"""Trials as a search could have found them, made up from a seed."""

import numpy as np

from edcn_tf.tuning.results import COMPLETED, FAILED, Retrained, TrialResult

REASONS = (
    "out of memory",
    "the loss is no longer a number",
    "more than 10,000 parameters",
)


def made_up_trials(count=30, *, more_parameters=0, failures=0.1, seed=0):
    """In the manner of Hyperband: a third go on with an earlier one."""
    random = np.random.default_rng(seed)
    trials, now = [], 1.8e9
    for number in range(count):
        begun = [t for t in trials if t.status == COMPLETED and t.epochs < 26]
        earlier = None
        if begun and random.random() < 0.25:
            earlier = max(begun, key=lambda t: t.score)
            begun_numbers = [t.continues for t in trials]
            if earlier.number in begun_numbers:
                earlier = None
        settings = earlier.settings if earlier else _settings(random, more_parameters)
        epochs = {3: 9, 9: 26}[earlier.epochs] if earlier else 3
        seconds = 2.0 * epochs + random.random()
        common = {
            "number": number,
            "settings": settings,
            "began": now,
            "ended": now + seconds,
            "training_seconds": seconds,
            "peak_memory_mib": random.uniform(450, 600),
            "search_memory_mib": 720 + 0.1 * number,
        }
        now += seconds
        if random.random() < failures:
            reason = REASONS[number % 3]
            trials.append(TrialResult(status=FAILED, reason=reason, **common))
            continue
        auc = _auc(settings, epochs) + random.normal(0, 0.002)
        width = settings["embedding_dim"]
        trials.append(
            TrialResult(
                status=COMPLETED,
                score=auc,
                auc=auc,
                log_loss=0.9 - 0.43 * auc / 0.8,
                parameters=7600 * width + 9000 * settings["num_layers"],
                latency_ms=0.03 * width * settings["num_layers"] * random.uniform(1, 2),
                epochs=epochs,
                best_epoch=epochs - (epochs > 9),
                continues=earlier.number if earlier else None,
                **common,
            )
        )
    return trials


def _settings(random, more):
    settings = {
        "bridge": str(random.choice(["hadamard", "concat", "attention", "none"])),
        "gate": str(random.choice(["softmax", "lhuc", "none"])),
        "embedding_dim": int(random.choice([8, 16, 32])),
        "num_layers": int(random.integers(1, 5)),
        "dropout": round(0.1 * int(random.integers(0, 7)), 1),
        "l2": float(10 ** random.uniform(0, 2)),
        "learning_rate": float(10 ** random.uniform(-3, -1.5)),
        "deep_units": [None, 64, [256, 128, 64]][random.integers(3)],
        "optimizer": "sparse_adam",
    }
    if settings["gate"] == "softmax":
        settings["temperature"] = float(10 ** random.uniform(-1, 1.3))
    for number in range(more):
        name = f"a_parameter_with_a_rather_long_name_{number}"
        value = float(random.random())
        settings[name] = value if number % 2 else f"choice_{int(3 * value)}"
    return settings


def _auc(settings, epochs):
    auc = 0.8 - 0.03 / epochs
    auc -= 0.01 * (np.log10(settings["learning_rate"]) + 2.2) ** 2
    auc += {"hadamard": 0, "concat": 0.003, "attention": 0.002, "none": -0.004}[
        settings["bridge"]
    ]
    return float(auc - 0.005 * (settings["dropout"] - 0.3) ** 2)


def made_up_retrained(trials, objective, count=5, seeds=3, test=True, seed=1):
    """The default and the best trials, a little worse than the search had them."""
    random = np.random.default_rng(seed)
    done = [trial for trial in trials if trial.status == COMPLETED]
    best = objective.best(done)[:count]
    chosen = [(None, 0.7935), *((trial, trial.auc - 0.001) for trial in best)]
    found = []
    for trial, auc in chosen:
        valid = tuple(float(v) for v in auc + random.normal(0, 0.0008, seeds))
        tested = tuple(v - 0.001 for v in valid) if test else ()
        mean = float(np.mean(valid))
        found.append(
            Retrained(
                name="default" if trial is None else f"trial {trial.number}",
                trial=None if trial is None else trial.number,
                config={} if trial is None else trial.settings,
                seeds=tuple(range(1, seeds + 1)),
                valid_auc=valid,
                valid_log_loss=tuple(0.9 - 0.43 * v / 0.8 for v in valid),
                test_auc=tested,
                test_log_loss=tuple(0.9 - 0.43 * v / 0.8 for v in tested),
                latency_ms=1.25,
                parameters=130_000,
                score=mean if objective.higher_is_better else 0.9 - 0.43 * mean / 0.8,
            )
        )
    return found
