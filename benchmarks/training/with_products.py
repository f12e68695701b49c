"""The limit: the network's large matrix products alone, of a step forward and back."""

import tensorflow as tf
from workload import arguments, take_turns


def main():
    args = arguments()
    width = args.fields * args.width
    inputs = tf.random.normal((args.batch, width))
    gradient = tf.random.normal((args.batch, width))
    kernel = tf.random.normal((width, width))

    @tf.function
    def products(inputs, gradient, kernel):
        return (
            tf.matmul(inputs, kernel),
            tf.matmul(gradient, kernel, transpose_b=True),
            tf.matmul(inputs, gradient, transpose_a=True),
        )

    def train(steps):
        for _ in range(steps * args.layers):
            products(inputs, gradient, kernel)[0].numpy()

    take_turns(train)


if __name__ == "__main__":
    main()
