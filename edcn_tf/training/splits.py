"""The prepared splits that training reads."""

import contextlib
import functools

import tensorflow as tf

from edcn_tf.directories import EncodedRows, PreparedData
from edcn_tf.evaluation.scoring import BATCH_ROWS
from edcn_tf.features.encoder import Encoder
from edcn_tf.records.checking import check_records
from edcn_tf.records.encoded import TRAINING_SPLITS, read_encoded, reading_encoded
from edcn_tf.records.reading import read_records, reading
from edcn_tf.records.writing import record_files


class TrainingSplits:
    """The training and the validation split, as records or as encoded rows.

    Args:
        data: Directory that `prepare` made.
        config: `TrainingConfig`.
        spec: Its `FeatureSpec`.
        encoded: Directory that `encode_rows` made of `data`, to read the rows from.
        skip_corrupt: Pass over this many bad records at most.

    Attributes:
        epoch: Variable with the number of the epoch that `training` reads next.
        rows, valid_rows: Number of rows of each split.
        skipped: For `result.json`, of which files how many bad records are skipped,
            and how many rows are lost with them.
        first_valid: A file of records of the validation split.

    Raises:
        InputError: If a split is missing, or has more bad records.
    """

    def __init__(self, data, config, spec, *, encoded=None, skip_corrupt=None):
        self.config, self.spec = config, spec
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        prepared = PreparedData(data)
        self.rows, self.valid_rows = (prepared.rows(split) for split in TRAINING_SPLITS)
        self.train, self.valid = map(prepared.records, TRAINING_SPLITS)
        self.skipped = {}
        if skip_corrupt is not None:
            self._skip(skip_corrupt)
        self.first_valid = record_files(self.valid)[0]
        self.read, self.encoded = read_encoded, encoded
        if encoded is None:
            self.read = functools.partial(read_records, encoder=Encoder(spec))
        else:
            rows = EncodedRows(encoded)
            self.train, self.valid = map(rows.rows, TRAINING_SPLITS)

    def _skip(self, allowed):
        """Reads the good records alone from now on."""
        check = functools.partial(check_records, spec=self.spec, allowed=allowed)
        train = check(record_files(self.train), prepared=self.rows, counted=True)
        before = sum(train.skipped.values())
        valid = check(record_files(self.valid), prepared=self.valid_rows, before=before)
        self.train, self.rows = train.files, train.rows
        self.valid, self.valid_rows = valid.files, valid.rows
        self.skipped = {
            "skipped": {**train.skipped, **valid.skipped},
            "lost_rows": train.lost + valid.lost,
        }

    def training(self, workers, skip=0):
        """What `fit` reads, from the epoch's step number `skip` on."""

        def read_part(batch_size, shard):
            part = {} if shard is None else {"shard": shard}
            if self.encoded is None:
                part["counted"] = True
            dataset = self.read(
                self.train,
                self.spec,
                batch_size,
                shuffle=True,
                seed=self.config.seed,
                epoch=self.epoch,
                **part,
            ).skip(skip)
            if shard is not None:
                return dataset
            steps = -(-self.rows // batch_size) - skip
            return dataset.apply(tf.data.experimental.assert_cardinality(steps))

        return workers.input(self.config.batch_size, read_part)

    def validation(self):
        """What the model is judged by after each epoch, in its order."""
        return self.read(self.valid, self.spec, BATCH_ROWS)

    @contextlib.contextmanager
    def reading(self):
        """Names the record of an error, as `reading` does."""
        named, of_training = reading_encoded, {}
        if self.encoded is None:
            named, of_training = reading, {"counted": True}
        with named(self.train, self.spec, self.rows, **of_training):
            with named(self.valid, self.spec, self.valid_rows):
                yield
