"""Which part this process has in a parallel search, by KerasTuner's variables."""

import os

from edcn_tf.errors import InputError

VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
ALONE, CHIEF, WORKER = "alone", "chief", "worker"


def role():
    """`ALONE`, `CHIEF` or `WORKER`; an `InputError` if a variable is missing."""
    given = [name for name in VARIABLES if os.environ.get(name)]
    if not given:
        return ALONE
    for name in VARIABLES:
        if name not in given:
            raise InputError(
                f"A parallel search needs {', '.join(VARIABLES)}; {name} is not set"
            )
    # As KerasTuner decides it.
    return CHIEF if "chief" in os.environ["KERASTUNER_TUNER_ID"] else WORKER
