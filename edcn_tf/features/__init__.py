"""Column batches -> the FeatureSpec; raw feature tensors -> ids, `[B, S]` int32."""
