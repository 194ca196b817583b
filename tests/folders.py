"""What is in the folder of a run."""


def contents(path):
    """Returns name to bytes of a run's files, but for its checkpoints and its lock."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "checkpoints" not in file.parts and file.name != ".lock"
    }
