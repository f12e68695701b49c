"""What each command of `edcn` does with its arguments, and says when it is done."""

from edcn_tf import evaluation, export, presets, training
from edcn_tf.config import TrainingConfig
from edcn_tf.console import program
from edcn_tf.errors import InputError
from edcn_tf.files import write_json
from edcn_tf.prediction import predict_log
from edcn_tf.report import write_report
from edcn_tf.schema import Schema


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

    run_demo(args.out, split_by=args.split_by, seed=args.seed)


def prepare(args):
    from edcn_tf.prepare import prepare as prepare_logs

    own = {name: getattr(args, name) for name in ("train", "valid", "test")}
    own = {name: logs for name, logs in own.items() if logs}
    if bool(args.logs) == bool(own):
        raise InputError("give either LOG... or --train LOG... --valid LOG... ...")
    if args.schema:
        schema = Schema.load(args.schema)
    elif args.format in presets.SCHEMAS:
        schema = presets.SCHEMAS[args.format]
    else:
        raise InputError("--schema FILE is needed: a JSON file that names the columns")
    summary = prepare_logs(
        own or args.logs,
        schema,
        args.out,
        format=args.format,
        split=args.split,
        split_by=args.split_by,
        seed=args.seed,
        workers=args.workers,
        compression="GZIP" if args.gzip else None,
    )
    print_summary(summary)
    print(f"Wrote {args.out}. Next:  {program()} train {args.out} --out runs/first")


def print_summary(summary):
    """The splits and fields of prepared data, as a table."""
    for name, split in summary["splits"].items():
        print(f"{name:>6} {split['rows']:>12,} rows  {split['click_rate']:.4f} clicks")
    print(f"\n{'field':<20} {'kept':>10} {'unseen':>8} {'missing':>8}")
    for field in summary["fields"]:
        print(
            f"{field['name']:<20} {field['values']:>10,} {field['unseen']:>8.2%} "
            f"{field['missing']:>8.2%}"
        )


def train(args):
    config = TrainingConfig.load(args.config, args.settings)
    result = training.train(args.data, args.out, config)
    print(
        f"Best epoch {result['best_epoch']} of {result['epochs']}: validation AUC "
        f"{result['valid_auc']:.4f}, log loss {result['valid_log_loss']:.4f}; "
        f"{result['examples_per_second']:,} examples/s"
    )
    print(f"Wrote {args.out}. Next:  {program()} evaluate {args.out} {args.data}")


def evaluate(args):
    figures = evaluation.evaluate_run(args.run, args.data, args.split)
    for name, value in figures.items():
        print(
            f"{name:<25} {value:>12,}"
            if isinstance(value, int)
            else f"{name:<25} {value:>12.6f}"
        )
    if args.json:
        write_json(args.json, figures)


def predict(args):
    rows = predict_log(args.run, args.logs, args.out, format=args.format)
    print(f"Wrote {rows:,} probabilities to {args.out}")


def export_version(args):
    version = export.export_run(args.run, args.out, version=args.version)
    print(f"Wrote {version}, verified: a clean process answers as the model did")


def verify(args):
    difference = export.verify_saved_model(args.version)
    print(f"{args.version}: verified; largest difference {difference:.1e}")


def report(args):
    path = write_report(args.run, args.data, split=args.split, baseline=args.baseline)
    print(f"Wrote {path}")


def benchmark(args):
    from edcn_tf import benchmarks

    benchmarks.run(args.what, args.rows)


RUN = {
    "demo": demo,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export_version,
    "verify": verify,
    "report": report,
    "benchmark": benchmark,
}
