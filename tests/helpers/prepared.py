"""What prepared data hold, to compare those of one log in several containers."""


def content(folder):
    """File's name -> bytes, of all files but the summary, which names the logs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "summary.json"
    }
