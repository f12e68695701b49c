"""What each command of `edcn` does with its arguments, and says when it is done."""

import contextlib
import dataclasses
import inspect
import shlex

from edcn_tf import calibration_fit, evaluation, export, presets, training, workers
from edcn_tf.config import TrainingConfig
from edcn_tf.console import program, quiet
from edcn_tf.errors import InputError
from edcn_tf.files import write_json
from edcn_tf.prediction import predict_log
from edcn_tf.report import write_report
from edcn_tf.schema import Schema
from edcn_tf.vocabulary import FeatureSpec
from edcn_tf.warm_start import continued_config


def one_line(error):
    """What a person is told of an error."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file system'}: {error.strerror}"
    return f"{type(error).__name__}: {text[:500]} (--debug shows where)"


def demo(args):
    from edcn_tf.demo import run_demo

    run_demo(
        args.out,
        data=args.data,
        rows=args.rows,
        split_by=args.split_by,
        history=args.history,
        seed=args.seed,
    )


def synthesize(args):
    from edcn_tf.synthesize import synthesize
    from edcn_tf.synthetic import SyntheticConfig

    options = {
        f.name: getattr(args, f.name) for f in dataclasses.fields(SyntheticConfig)
    }
    for name in ("pairs", "triples"):
        groups = options.pop(name)
        if groups is not None:
            options[name] = [group.split(":") for group in groups]
    figures = synthesize(
        args.out,
        args.rows,
        SyntheticConfig(**options),
        skip=args.skip,
        probabilities=args.probabilities,
    )
    print(f"{figures['rows']:,} rows, {figures['click_rate']:.4f} clicks\n")
    print(f"{'scored by':<30}{'AUC':>8}{'log loss':>10}")
    for name, figure in [
        ("all that features tell", "best"),
        ("first-order effects alone", "first_order"),
    ]:
        auc, log_loss = figures[figure]["auc"], figures[figure]["log_loss"]
        print(f"{name:<30}{auc:>8.4f}{log_loss:>10.4f}")
    print(
        f"\nWrote {args.out} and {args.out}.json. Next:  {program()} prepare "
        f"{args.out} --format criteo --out data"
    )


def prepare(args):
    from edcn_tf.prepare import prepare as prepare_logs

    own = {name: getattr(args, name) for name in ("train", "valid", "test")}
    own = {name: logs for name, logs in own.items() if logs}
    if bool(args.logs) == bool(own):
        raise InputError("give either LOG... or --train LOG... --valid LOG... ...")
    if args.schema:
        schema = Schema.load(args.schema)
    elif args.vocabulary_of:
        schema = FeatureSpec.load(f"{args.vocabulary_of}/features").schema
    elif args.format in presets.SCHEMAS:
        schema = presets.SCHEMAS[args.format]
    else:
        raise InputError("--schema FILE is needed: a JSON file that names the columns")
    # Beam logs the whole traceback of what we tell in one line.
    silent = args.runner and not args.debug
    with quiet() if silent else contextlib.nullcontext():
        summary = prepare_logs(
            own or args.logs,
            schema,
            args.out,
            format=args.format,
            split=args.split,
            split_by=args.split_by,
            seed=args.seed,
            negative_sampling_rate=args.negative_sampling_rate,
            workers=args.workers,
            runner=args.runner,
            runner_options=shlex.split(args.runner_options),
            compression="GZIP" if args.gzip else None,
            vocabulary_of=args.vocabulary_of,
            forget_after=args.forget_after,
            refit=args.refit,
            history=args.history,
        )
    print_summary(summary)
    goes_on = " --warm-start RUN" if args.vocabulary_of else ""
    run = "runs/next" if args.vocabulary_of else "runs/first"
    print(f"Wrote {args.out}. Next:  {program()} train {args.out} --out {run}{goes_on}")


def print_summary(summary):
    """The splits and fields of prepared data, as a table."""
    for name, split in summary["splits"].items():
        print(f"{name:>6} {split['rows']:>12,} rows  {split['click_rate']:.4f} clicks")
    grows = "day" in summary
    heads = f"{'new':>10} {'forgotten':>10}" if grows else ""
    head = f"\n{'field':<20} {'kept':>10} {'unseen':>8} {'missing':>8} {heads}"
    print(head.rstrip())
    for field in summary["fields"]:
        line = (
            f"{field['name']:<20} {field['values']:>10,} {field['unseen']:>8.2%} "
            f"{field['missing']:>8.2%}"
        )
        if grows:
            line += f" {field['new']:>10,} {field['forgotten']:>10,}"
        print(line)


def describe(args):
    from edcn_tf.describe import described_model, description
    from edcn_tf.diagram import draw_model

    model = described_model(
        args.path, args.config, args.settings, fields=args.fields, rows=args.rows
    )
    print(description(model))
    if args.figure:
        draw_model(model, args.figure)
        print(f"\nWrote {args.figure}")


def train(args):
    if args.warm_start:
        config = continued_config(
            args.warm_start, args.data, args.config, args.settings
        )
    else:
        config = TrainingConfig.load(args.config, args.settings)
    strategy = None
    if args.strategy:
        if args.strategy == "multi_worker":
            print("Waiting until all workers of TF_CONFIG have started", flush=True)
        strategy = workers.make_strategy(args.strategy)
    result = training.train(
        args.data,
        args.out,
        config,
        strategy=strategy,
        skip_corrupt=args.skip_corrupt,
        warm_start=args.warm_start,
    )
    if not workers.Workers(strategy).is_chief:
        return  # the chief says it
    print(
        f"Best epoch {result['best_epoch']} of {result['epochs']}: validation AUC "
        f"{result['valid_auc']:.4f}, log loss {result['valid_log_loss']:.4f}; "
        f"{result['examples_per_second']:,} examples/s"
    )
    _print_skipped(result)
    print(f"Wrote {args.out}. Next:  {program()} evaluate {args.out} {args.data}")


def _print_skipped(figures):
    """By file; nothing where there was no leave to skip."""
    if "skipped" not in figures:
        return
    for path, number in figures["skipped"].items():
        print(f"{path}: {number:,} bad record{'s' * (number > 1)} skipped")
    if figures["skipped"]:
        print(f"{figures['lost_rows']:,} of the prepared rows are lost")
    else:
        print("No bad records")


def tune(args):
    from edcn_tf.tuning import Objective, search

    config = search(
        args.data,
        args.out,
        space=args.space,
        base=TrainingConfig.read(args.config, args.settings),
        tuner=args.tuner,
        trials=args.trials,
        hours=args.hours,
        max_parameters=args.max_parameters,
        objective=Objective(args.objective, args.latency_charge, args.parameter_charge),
        retrain_trials=args.retrain,
        retrain_seeds=args.retrain_seeds,
    )
    if config is None:
        print("This worker has nothing left to do")
        return
    print(
        f"Wrote {args.out}/best.yaml, trials.csv and report.html. Next:  {program()} "
        f"train {args.data} --out runs/best --config {args.out}/best.yaml"
    )


def evaluate(args):
    figures = evaluation.evaluate_run(
        args.run, args.data, args.split, skip_corrupt=args.skip_corrupt
    )
    _print_skipped(figures)
    for name, value in figures.items():
        if name in ("skipped", "lost_rows"):
            continue
        print(
            f"{name:<25} {value:>12,}"
            if isinstance(value, int)
            else f"{name:<25} {value:>12.6f}"
        )
    if args.json:
        write_json(args.json, figures)


def calibrate(args):
    figures = calibration_fit.calibrate_run(
        args.run,
        args.data,
        method=args.method,
        negative_sampling_rate=args.negative_sampling_rate,
    )
    print(f"{'validation split':<17} {'log loss':>10} {'calibration':>12} {'ECE':>10}")
    for name, values in figures.items():
        print(
            f"{name:<17} {values['log_loss']:>10.6f} {values['calibration']:>12.4f} "
            f"{values['ece']:>10.6f}"
        )
    print(f"Wrote {args.run}/{calibration_fit.FILE}; export the run again to serve it")


def predict(args):
    rows = predict_log(args.run, args.logs, args.out, format=args.format)
    print(f"Wrote {rows:,} probabilities to {args.out}")


def export_version(args):
    version = export.export_run(
        args.run, args.out, version=args.version, keep=args.keep
    )
    print(f"Wrote {version}, verified: a clean process answers as the model did")
    print(f"How to serve it: {args.out}/models.config")


def verify(args):
    if bool(args.against) != bool(args.scores):
        raise InputError("--against LOG and --scores FILE go together")
    proof = export.verify_saved_model(args.version)
    print(
        f"{args.version}: verified: {proof['requests']} requests to "
        f"{len(proof['signatures'])} signatures, by two ways to load it; largest "
        f"difference {proof['largest_difference']:.1e}"
    )
    if proof["tolerance"] > 1e-6:
        print(
            f"Differences up to {proof['tolerance']:.1e} were allowed: in float32 this "
            "model's own scores differ by an eighth of that between batch sizes"
        )
    if args.against:
        _compare_scores(args)


def _compare_scores(args):
    from edcn_tf.export.skew import compare_scores

    skew = compare_scores(
        args.version,
        args.against,
        args.scores,
        format=args.format,
        tolerance=args.tolerance,
    )
    if not skew.differing:
        print(
            f"{skew.rows:,} logged scores: the same; largest difference "
            f"{skew.largest:.1e}"
        )
        return
    print(f"\n{'rows that differ score as if':<30}{'missing':>10}{'unseen':>10}")
    for field in skew.fields:
        missing, unseen = field.as_if_missing, field.as_if_unseen
        where = f"{field.differing:,} of {field.rows:,} rows with {field.value!r}"
        if not field.rows:
            where = "no frequent value"
        print(f"{field.name:<30}{missing:>10,}{unseen:>10,}   {where}")
    raise InputError(
        f"{skew.differing:,} of {skew.rows:,} logged scores differ by more than "
        f"{args.tolerance:g}; most in row {skew.worst_row}: logged {skew.logged:.6f}, "
        f"answered {skew.answered:.6f}"
    )


def request(args):
    from edcn_tf.export.client.request import request_probabilities

    for line in request_probabilities(
        args.address,
        args.model,
        rows=args.row,
        path=args.file,
        format=args.format,
        schema=args.schema,
        signature=args.signature,
        version=args.version,
        deadline=args.deadline,
    ):
        print(line)


def report(args):
    run, *others = args.runs
    path = write_report(
        run, args.data, others=others, split=args.split, baseline=args.baseline
    )
    print(f"Wrote {path}")


def benchmark(args):
    from edcn_tf import benchmarks

    names = ("rows", "peers", "figure", "out", "seeds", "data")
    given = {name: getattr(args, name) for name in names}
    options = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(benchmarks.BENCHMARKS[args.what]).parameters
    for name in set(options) - set(known):
        raise InputError(f"--{name} does not go with `benchmark {args.what}`")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"`benchmark {args.what}` needs --{name}")
    benchmarks.run(args.what, **options)


RUN = {
    "demo": demo,
    "synthesize": synthesize,
    "prepare": prepare,
    "describe": describe,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "predict": predict,
    "export": export_version,
    "verify": verify,
    "request": request,
    "report": report,
    "benchmark": benchmark,
}
