"""What several tests share: references, checks, small logs, a stand-in for a server."""
