"""Which statistics and crosses help: `edcn prepare --statistics auto`."""
