"""Checkpoints that number their variables, as they were first written; read only.

The variables are `variables/0`, `variables/1`, ...: the model's weights in its order,
with the counts of a FieldEmbedding after its tables if it had L2; then the random
states, if it drew any; at the end the optimizer's variables.
"""

import re

from edcn_tf.training.checkpoints.variable_names import (
    RANDOM_STATE,
    counts_name,
    named_optimizer_variables,
    named_random_states,
    named_weights,
)

KEY = re.compile(r"variables/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")


def keys_by_position(keys, model, had_counts=None):
    """The name of each variable that such a checkpoint has, by its position.

    Args:
        keys: TensorFlow's keys of what is stored.
        model, had_counts: As of `StoredVariables`.

    Returns:
        Name -> key. Random states of which there are other numbers than the model has
        are known as such, but not whose they are.

    Raises:
        ValueError: If there are fewer than the model has, or other keys.
    """
    matches = filter(None, map(KEY.fullmatch, keys))
    numbered = {int(match[1]): match[0] for match in matches}
    if sorted(numbered) != list(range(len(numbered))):
        raise ValueError("some of its numbered variables are missing")
    weights, optimizer = _weights(model, had_counts), named_optimizer_variables(model)
    number = len(numbered) - len(weights) - len(optimizer)
    if number < 0:
        raise ValueError(
            f"holds {len(numbered)} variables, and the model has "
            f"{len(weights) + len(optimizer)}"
        )
    random = list(named_random_states(model))
    if len(random) != number:
        random = [f"{i}/{RANDOM_STATE}" for i in range(number)]
    names = [*weights, *random, *optimizer]
    return {name: numbered[i] for i, name in enumerate(names)}


def _weights(model, had_counts):
    """Names of the weights, with the counts that were stored and not those that are."""
    if had_counts is None:
        had_counts = [bool(embedding.l2) for embedding in model.embeddings]
    counts = {counts_name(each, model) for each in model.embeddings}
    after = {  # last table of an embedding -> name of its counts
        id(embedding.tables[-1]): counts_name(embedding, model)
        for embedding, had in zip(model.embeddings, had_counts)
        if had
    }
    names = []
    for name, variable in named_weights(model).items():
        if name not in counts:
            names.append(name)
        if id(variable) in after:
            names.append(after[id(variable)])
    return names
