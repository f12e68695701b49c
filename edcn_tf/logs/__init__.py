"""Raw logs -> column batches (pyarrow): one meaning for a value in every format."""
