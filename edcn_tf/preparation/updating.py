"""A run, or prepared data, whose statistics know another day: without training."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edcn_tf.directories import PreparedData
from edcn_tf.errors import InputError
from edcn_tf.features.growth import Growth
from edcn_tf.features.spec import FILE, FeatureSpec
from edcn_tf.features.statistics.tables import FOLDER
from edcn_tf.files import StrPath, new_directory, read_json, replaced, write_json
from edcn_tf.logs.reading import LogPart, log_files
from edcn_tf.preparation.counted import count
from edcn_tf.preparation.plan import Plan
from edcn_tf.preparation.splitting import Splitter
from edcn_tf.preparation.statistics import Statistics


def update_statistics(
    directory: StrPath,
    logs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    format: str | None = None,
) -> dict[str, Any]:
    """Copies a run, or prepared data, with all rows of new logs in its statistics.

    What the model makes of them stays: priors, smoothing, ranges, and all else. So a
    copy of a run can be exported as the next version at once.

    Args:
        directory: The run or the prepared data.
        logs: The name of a log, or of several, of the days after.
        out: A new directory.
        format: Of the logs, or from their names.

    Returns:
        `statistics` of `summary.json`, as they are now.

    Raises:
        InputError: If there are no statistics, or for anything wrong with the logs.
    """
    one = isinstance(logs, (str, Path))
    names = tuple(log_files([logs] if one else logs))  # type: ignore[arg-type,list-item]
    spec = FeatureSpec.load(PreparedData(directory).features)
    if not spec.counters:
        raise InputError(f"{directory}: has no statistics to update")
    if not names:
        raise InputError("There is no log to update from")
    if Path(out).resolve().is_relative_to(Path(directory).resolve()):
        raise InputError(f"The copy cannot lie in {directory}. Received: {out}")
    by_chance = any(table.known_after is None for table in spec.counters)
    growth = Growth(directory)
    statistics = Statistics(spec.schema, "frozen", by_chance, growth)
    plan = Plan(
        names,
        ("train",) * len(names),  # all rows count
        Splitter(schema=spec.schema, seed=spec.day, split=None),
        format,
        growth=growth,
        statistics=statistics,
    )
    with new_directory(out) as partial:
        shutil.copytree(directory, partial, dirs_exist_ok=True)
        features = PreparedData(partial).features
        shutil.rmtree(features / FOLDER)
        with tempfile.TemporaryDirectory(dir=partial) as work:
            parts = list(enumerate(map(LogPart, names)))
            gathered = [Path(work, str(log)) for log in range(len(names))]
            joined, tables = Path(work, "joined"), Path(work, "tables")
            for folder in (*gathered, joined, tables):
                folder.mkdir()
            # What the rows themselves knew is not asked for: one place for all of it.
            counted = count(plan, parts, gathered, [joined] * len(names), tables)
            stored = {
                **counted.write(features),
                "protocol": spec.counted["protocol"],
                "updated": [*spec.counted.get("updated", ()), *map(str, names)],
            }
        with replaced(features / FILE) as path:
            write_json(path, {**read_json(features / FILE), "statistics": stored})
        summary = FeatureSpec.load(features).statistics_summary()
        path = PreparedData(partial).summary
        if path.exists():  # prepared data, and no run
            with replaced(path) as changed:
                write_json(changed, {**read_json(path), "statistics": summary})
    return summary
