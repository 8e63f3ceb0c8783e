"""Packages that an extra brings, and what is said where they are missing."""


def missing(extra: str, error: ModuleNotFoundError) -> ImportError:
    """The error of a protocol reader whose parser is not installed, in one line."""
    return ImportError(
        f"aiomos.{extra} needs {error.name}: pip install 'aiomos[{extra}]'", name=error.name
    )
