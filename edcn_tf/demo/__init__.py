"""The whole way on data that needs no network: `edcn demo`."""
