"""The softmax of scores, also where there is one score alone."""

from keras import ops


def softmax(scores):
    """Over the last axis.

    Of a single score it is 1, whatever the score, with a gradient of 0: so a model of
    one field has gates, too. Keras warns of that, since a sigmoid may have been meant;
    here it is what the formula says.
    """
    if scores.shape[-1] == 1:
        return ops.exp(scores - scores)  # less the largest, as every softmax
    return ops.softmax(scores)
