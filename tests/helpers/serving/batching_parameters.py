"""TF Serving's `BatchingParameters`, read from their text form by protobuf."""

import os
from typing import NamedTuple

from google.protobuf import text_format

from helpers.serving_protos import empty

from .refusal import invalid


class BatchingParameters(NamedTuple):
    """How requests are batched, with TF Serving's defaults.

    Attributes:
        max_batch_size: Rows that one request may have.
        batch_timeout_micros: How long a batch waits for more requests.
        max_enqueued_batches: Batches of a signature that may wait for a thread.
        num_batch_threads: Batches that run at once.
        allowed_batch_sizes: Sizes that a batch is filled up to; any if empty.
        pad_variable_length_inputs: Whether requests of unequal shapes are padded.
        max_execution_batch_size: Rows of a batch. Less than `max_batch_size` only where
            requests are split.
        enable_large_batch_splitting: Whether they are.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 1000


def read_batching_parameters(text):
    """The `BatchingParameters` of a `--batching_parameters_file`.

    Raises:
        Refused: If TF Serving would not start with them.
    """
    try:
        found = text_format.Parse(text, empty("BatchingParameters"))
    except text_format.ParseError as error:
        raise invalid(f"not a BatchingParameters: {error}") from None
    given = {
        field.name: value.value if field.message_type else value
        for field, value in found.ListFields()
    }
    given["allowed_batch_sizes"] = tuple(found.allowed_batch_sizes)
    given.pop("thread_pool_name", None)
    largest = given.get("max_batch_size", BatchingParameters().max_batch_size)
    execution = given.pop("max_execution_batch_size", largest)
    splits = given.get("enable_large_batch_splitting", False)
    allowed = given["allowed_batch_sizes"]
    if allowed and allowed[-1] != largest:
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry "
            f"was {allowed[-1]}; expected {largest}"
        )
    if splits and execution > largest:
        raise invalid(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be "
            "greater than or equal to max_execution_batch_size."
        )
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
        if given.get(name, 1) < 1:
            raise invalid(f"{name} must be positive; was {given[name]}")
    return BatchingParameters(
        **given, max_execution_batch_size=execution if splits else largest
    )
