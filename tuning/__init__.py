"""Search hyper-parameters with KerasTuner."""
