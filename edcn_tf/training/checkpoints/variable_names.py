"""The names that checkpoints store variables by: their paths, as far as these stay.

What Keras numbers as it comes, such as the model (`edcn_1`), an optimizer and the
generators of random numbers, is no part of a name; where layers are numbered so, they
need names of their own.

    embedding/table                     a weight
    deep_0/seed_generator_state         a random state
    optimizer/iteration                 the optimizer's own
    optimizer/embedding/table/velocity  its slot of a weight
"""

import re

RANDOM_STATE = "seed_generator_state"
GENERATOR = re.compile(r"seed_generator(_\d+)?")
COUNTS = "inverse_counts"  # of a FieldEmbedding with L2
# An optimizer's lists of slots, of each trainable variable one, by the slot's name.
SLOTS = {
    "momentum": "_momentums",
    "velocity": "_velocities",
    "average": "_averages",
    "averaged_at": "_averaged_at",
}


def named_variables(model):
    """All that training changes, by name: weights, random states, the optimizer's.

    Args:
        model: Compiled and built, and so its optimizer.

    Returns:
        Name -> Keras variable, in this order.

    Raises:
        ValueError: If two variables would have one name.
    """
    weights = named_weights(model)
    return _unique(
        [
            *weights.items(),
            *named_random_states(model).items(),
            *named_optimizer_variables(model).items(),
        ]
    )


def named_weights(model):
    """Name -> variable of the model's weights, in the order of `model.weights`."""
    return _unique((_of_model(model, v), v) for v in model.weights)


def named_random_states(model):
    """Name -> variable of the states that dropout and its like draw from.

    They are no weights to Keras, and those that are made before their layer is built
    do not have it in their path.
    """
    owners = {id(v): layer.name for layer in model.layers for v in layer.variables}
    pairs = []
    for variable in model.variables:
        if variable.name == RANDOM_STATE:
            *parts, name = _of_model(model, variable).split("/")
            parts = [part for part in parts if not GENERATOR.fullmatch(part)]
            owner = owners.get(id(variable))
            if owner and parts[:1] != [owner]:
                parts.insert(0, owner)
            pairs.append(("/".join([*parts, name]), variable))
    return _unique(pairs)


def named_optimizer_variables(model):
    """Name -> variable of the optimizer, in the order of `optimizer.variables`."""
    optimizer = model.optimizer
    slots = {}
    for slot, attribute in SLOTS.items():
        if hasattr(optimizer, attribute):
            for variable in model.trainable_variables:
                index = optimizer._get_variable_index(variable)
                own = getattr(optimizer, attribute)[index]
                slots[id(own)] = slot_name(_of_model(model, variable), slot)
    return _unique(
        (slots.get(id(own), f"optimizer/{own.name}"), own)
        for own in optimizer.variables
    )


def slot_name(weight, slot):
    """Name of the optimizer's slot, a key of `SLOTS`, of the weight with a name."""
    return f"optimizer/{weight}/{slot}"


def counts_name(embedding, model):
    """Name of the counts of a FieldEmbedding, whether or not it has any."""
    return f"{_of_model(model, embedding.tables[0]).rpartition('/')[0]}/{COUNTS}"


def is_random_state(name):
    """Whether it is a name of `named_random_states`."""
    return name.rpartition("/")[2] == RANDOM_STATE


def _of_model(model, variable):
    return variable.path.removeprefix(f"{model.name}/")


def _unique(pairs):
    named = {}
    for name, variable in pairs:
        if name in named:
            raise ValueError(
                f"Two variables of the model would be stored as {name!r}, "
                f"{named[name].path} and {variable.path}; give their layers names of "
                "their own"
            )
        named[name] = variable
    return named
