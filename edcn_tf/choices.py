"""The names that a user chooses by, on the command line and in Python.

A file without imports: the command line reads it without importing the package, which
takes seconds.
"""

FORMATS = ("csv", "tsv", "jsonl", "parquet", "tfrecord", "criteo", "avazu")  # of logs
SPLITS = ("train", "valid", "test")
SPLIT_BY = ("chance", "time")
PROTOCOLS = ("frozen", "running")  # of statistics in validation and test rows
CHOOSING = ("auto",)  # of the statistics that a schema gets
STRATEGIES = ("mirrored", "multi_worker")  # of tf.distribute
OBJECTIVES = ("auc", "log_loss")  # of a search
