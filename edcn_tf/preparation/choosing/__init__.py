"""Which statistics and crosses a schema should have: `edcn prepare --statistics auto`."""
