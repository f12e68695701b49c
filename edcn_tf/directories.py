"""The directories that commands make, and the names of the files in them.

No other module spells these names.
"""

import glob
from pathlib import Path
from typing import Any

from edcn_tf.errors import InputError
from edcn_tf.files import StrPath, read_json, read_value


class PreparedData:
    """The directory that `edcn prepare` makes: records, FeatureSpec and summary.

    Another producer's directory of records may lack all but the records.

    Args:
        path: The directory.

    Attributes:
        features: The FeatureSpec's directory (`edcn_tf.FeatureSpec.load`).
        summary: What was prepared, and how; a JSON file.
        statistics: Which statistics and crosses were tried and added; a JSON file,
            there if they were chosen (`prepare(..., statistics="auto")`).
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.features = self.path / "features"
        self.summary = self.path / "summary.json"
        self.statistics = self.path / "statistics.json"

    def records(self, split: str) -> str:
        """Glob pattern of a split's TFRecord files."""
        return f"{glob.escape(str(self.path))}/{split}-*.tfrecord*"

    def prefix(self, split: str) -> str:
        """What the paths of a split's TFRecord files begin with, up to their number."""
        return str(self.path / split)

    def rows(self, split: str) -> int:
        """How many rows `prepare` gave a split.

        Raises:
            InputError: If the data was prepared without it, or its summary is damaged.
        """
        splits = read_value(self.summary, "splits")
        if isinstance(splits, dict) and split not in splits:
            raise InputError(
                f"{self.path}: was prepared without a {split} split; it has: "
                f"{', '.join(splits)}"
            )
        return read_value(self.summary, "splits", split, "rows")

    def sampling_rate(self) -> Any:
        """The share of the rows without a click that the training split kept."""
        return read_json(self.summary).get("negative_sampling_rate", 1.0)


class EncodedRows:
    """The directory of rows that are encoded already (`records.encoded`).

    Args:
        path: The directory.

    Attributes:
        checksums: Of each file its CRC-32; a JSON file.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.checksums = self.path / "checksums.json"

    def rows(self, split: str) -> str:
        """Glob pattern of a split's files."""
        return f"{glob.escape(str(self.path))}/{split}-*.ids"

    def file_of(self, records: StrPath) -> Path:
        """The path of the rows of a TFRecord file."""
        return self.path / f"{Path(records).name}.ids"


class Run:
    """The run directory that `edcn train` makes.

    Args:
        path: The directory.

    Attributes:
        config: The setting (`edcn_tf.TrainingConfig`), YAML.
        features: The FeatureSpec's directory, a copy of that of the data.
        model: The best model, without its optimizer.
        calibration: From its probability to the true one.
        checkpoints: What an interrupted run goes on from; at the end that of the best
            epoch alone.
        started_from: The run whose weights it started from; not there if none.
        history: Figures of each epoch, CSV.
        sample: Records that an export is verified with.
        tensorboard: TensorBoard's logs, if it is installed.
        result: Figures of the best epoch, JSON; there when the run is finished.
        report: The page of `edcn report`.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.features = self.path / "features"
        self.model = self.path / "model.keras"
        self.calibration = self.path / "calibration.json"
        self.checkpoints = self.path / "checkpoints"
        self.started_from = self.path / "warm_start.json"
        self.history = self.path / "history.csv"
        self.sample = self.path / "sample.tfrecord"
        self.tensorboard = self.path / "tensorboard"
        self.result = self.path / "result.json"
        self.report = self.path / "report.html"

    def check_name(self) -> None:
        """Raises an `InputError` for a name that TensorFlow cannot read back.

        It takes the path of a checkpoint for a pattern.
        """
        if glob.escape(str(self.path)) != str(self.path):
            raise InputError(
                f"{self.path}: TensorFlow finds no checkpoint in a directory with [, * "
                "or ? in its name; choose another --out"
            )

    def data(self) -> str:
        """The prepared data that a finished run was trained on, as it was named.

        Raises:
            InputError: If the run is not finished, or its result damaged.
        """
        return str(read_value(self.result, "data"))
