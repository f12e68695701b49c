"""Column batches -> TFRecord files of tf.Example -> `tf.data` of ids and labels."""
