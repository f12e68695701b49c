"""Builders of data sets whose source is one click log in a format that we read."""

import os
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_datasets as tfds

from edcn_tf.errors import InputError
from edcn_tf.logs.formats import SCHEMAS, TEXT
from edcn_tf.logs.normalizing import normalized
from edcn_tf.logs.opening import input_errors
from edcn_tf.logs.text import read_text


class RawLogBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """One split, `train`, of the rows of a log that the user has downloaded.

    Rows keep the log's order, and columns the names and types of the preset schema
    (`edcn_tf.logs.formats.SCHEMAS`). A missing text is the empty string, a missing
    number NaN; `edcn prepare` reads both as missing again.

    Examples are made in one process with little memory; or by Beam, if
    `tfds.download.DownloadConfig` says so by `beam_options` or `beam_runner`: then one
    worker reads the log, and all of them encode its rows.

    A subclass sets `FORMAT` (a preset) and `FILES` (names that the log may have).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    FORMAT: ClassVar[str]
    FILES: ClassVar[tuple[str, ...]]

    def info_of(self, **options):
        """The `DatasetInfo`: the preset schema's columns, and other `options`."""
        schema = SCHEMAS[self.FORMAT]
        whole = {schema.label, schema.timestamp}
        numbers = {field.name for field in schema.fields if field.has_ranges}
        features = {
            name: tfds.features.Scalar(np.int64)
            if name in whole
            else tfds.features.Scalar(np.float32)
            if name in numbers
            else tfds.features.Text()
            for name in schema.columns
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            **options,
        )

    def _download_and_prepare(self, dl_manager, download_config):
        self._by_beam = bool(
            download_config.beam_options or download_config.beam_runner
        )
        super()._download_and_prepare(dl_manager, download_config)

    def _split_generators(self, dl_manager):
        paths = [os.path.join(dl_manager.manual_dir, name) for name in self.FILES]
        found = [path for path in paths if os.path.exists(path)]
        if not found:
            what_to_do = " ".join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise InputError(f"{paths[0]}: is not there. {what_to_do}")
        return {"train": self._generate_examples(found[0])}

    def _generate_examples(self, path):
        if not self._by_beam:
            return (
                row for batch in _batches(path, self.FORMAT) for row in _rows(batch)
            )
        beam = tfds.core.lazy_imports.apache_beam
        return (
            beam.Create([path])
            | "Read" >> beam.FlatMap(_batches, self.FORMAT)
            | beam.Reshuffle()
            | "Rows" >> beam.FlatMap(_rows)
        )


def _batches(path, format):
    """Yields the number of a batch's first row, from 0, and the batch."""
    schema = SCHEMAS[format]
    with input_errors(path, format):
        batches = read_text(path, TEXT[format], schema.columns, lambda _: None)
        yield from normalized(batches, schema, schema.columns, path)


def _rows(numbered):
    """Yields the number and the columns of each row of a batch."""
    first, batch = numbered
    columns = []
    for column in batch.columns:
        if column.type == pa.float64():  # a time, of which the features hold seconds
            column = pc.cast(pc.floor(column), pa.int64())
        missing = "" if column.type == "string" else float("nan")
        values = column.fill_null(missing) if column.null_count else column
        columns.append(values.to_pylist())
    for number, row in enumerate(zip(*columns), first):
        yield number, dict(zip(batch.schema.names, row))
