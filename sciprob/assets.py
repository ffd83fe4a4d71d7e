"""Where the problem files and meshes are: working directory, then checkout, then package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _places(kind: str) -> list[tuple[str, Path]]:
    """Label and folder, in the order of the search.

    All are relative to this very file or the working directory: an editable install can leave a
    stale copy of the assets in site-packages, which must never win over the checkout's.
    """
    checkout = _PACKAGE.parent
    places = [("working directory", Path.cwd() / kind)]
    if (checkout / "pyproject.toml").is_file():
        places.append(("checkout", checkout / kind))
    places.append(("package", _PACKAGE / "_assets" / kind))
    return places


def folders(kind: str) -> list[Path]:
    """Existing folders that hold assets of a kind (`problems`, `meshes`), first one wins."""
    found = [folder.resolve() for _, folder in _places(kind) if folder.is_dir()]
    return list(dict.fromkeys(found))


def origin(path: Path) -> str:
    """In words where a file was found: `checkout`, `package`, `working directory` or its own folder."""
    path = path.resolve()
    places = [(label, folder.resolve()) for label, folder in _places(path.parent.name)]
    # the checkout as working directory is called the checkout
    return next((label for label, folder in reversed(places) if folder == path.parent), str(path.parent))
