"""Logs -> a data directory, on this machine or by Apache Beam: `edcn prepare`."""
