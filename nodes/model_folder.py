"""Where bundles lie: ComfyUI's models/genve (and what extra_model_paths.yaml adds to it), then the pack's own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ..genve_core.bundle import PACKED
from ..genve_core.errors import InputError

FOLDER = "genve"  # in folder_paths, and the key in extra_model_paths.yaml


def register_folder() -> None:
    """Tell ComfyUI of models/genve. The user's own paths from extra_model_paths.yaml, read earlier, stay first."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})  # an empty set would list every file


def bundles() -> dict[str, Path]:
    """Every installed bundle: name -> folder. Of two with one name, the first found counts."""
    import folder_paths

    found: dict[str, Path] = {}
    for folder in (*folder_paths.get_folder_paths(FOLDER), PACKED):
        for description in sorted(Path(folder).glob("*/bundle.json")):
            found.setdefault(description.parent.name, description.parent)
    return found


def bundle_folder(name: str) -> Path:
    """The folder of an installed bundle. Raises InputError for every name but those of `bundles`, so for any path."""
    installed = bundles()
    if name not in installed:
        raise InputError(f"bundle {name!r} is not installed, only {', '.join(installed) or 'none'}; put its folder, "
                         f"with bundle.json in it, into models/{FOLDER} and refresh the page")
    return installed[name]


def fingerprint(name: str) -> str:
    """Changes when the bundle is replaced: bundle.json holds the sha256 of every file."""
    folder = bundle_folder(name)
    return f"{folder} {hashlib.sha256((folder / 'bundle.json').read_bytes()).hexdigest()}"
