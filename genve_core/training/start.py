"""Starting a run from weights that exist: a bundle's components are copied into the run's own, and stages go on with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn as nn

from ..bundle import load_bundle, sha256
from ..errors import InputError

# What a stage's config calls the sizes of a component, and what the component's own config calls them.
SIZES: dict[str, dict[str, str]] = {
    "vae": {"latent_channels": "latent_channels", "channels": "channels", "depth": "depth"},
    "unet": {"channels": "block_out_channels", "layers": "layers_per_block"},
    "decoder": {"channels": "channels", "depth": "depth", "reach": "reach"},
    "controller": {},  # its `lca` is looked at name by name
    "motion": {},
    "flow": {name: name for name in ("features", "width", "depth", "iterations")},
}


def copy_bundle(source: str | Path, target: Path) -> None:
    """Make the folder `target` a bundle with the components of another one, checked, to be trained further.

    source: a bundle's name or folder. Its training record is kept, each stage under `name/stage`. A `target` that was
    started from the same bundle is left as it is, so that every stage of a run may be told where the run started.
    Raises InputError if `target` holds anything else.
    """
    bundle = load_bundle(source)
    assert bundle.path is not None
    origin = {"name": bundle.name, "sha256": sha256(bundle.path / "bundle.json")}
    if (target / "bundle.json").is_file():
        if json.loads((target / "bundle.json").read_text(encoding="utf-8")).get("from") == origin:
            return
        raise InputError(f"{target} is a bundle that was not started from {source}; leave out --from to go on with it, "
                         f"or use another --out")
    about = json.loads((bundle.path / "bundle.json").read_text(encoding="utf-8"))
    earlier = [{**record, "stage": f"{bundle.name}/{record.get('stage')}"} for record in bundle.training]
    about |= {"name": target.name, "from": origin, "training": earlier}
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for component in about["components"].values():
        shutil.copyfile(bundle.path / component["file"], part / component["file"])
    (part / "bundle.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, target)


def component_of(folder: Path, part: str) -> nn.Module | None:
    """The component of the bundle in `folder`, ready to be trained further; None if there is none yet."""
    if not (folder / "bundle.json").is_file():
        return None
    module = load_bundle(folder, only=(part,)).components.get(part)
    return None if module is None else module.requires_grad_(True).train()


def check_sizes(module: nn.Module, part: str, settings: Mapping[str, Any]) -> None:
    """Raise InputError if a config asks for another size than the component has that the stage goes on with."""
    config: Mapping[str, Any] = getattr(module, "config", {})
    have = {name: config[own] for name, own in SIZES[part].items() if own in config}
    wanted = settings
    if part == "controller":
        have, wanted = dict(config["lca_config"]), settings.get("lca", {})
    for name, value in wanted.items():
        if name in have and _plain(have[name]) != _plain(value):
            raise InputError(f"the config asks for a {part} with {name} {_plain(value)}, but the one to go on with has "
                             f"{_plain(have[name])}; leave {name} out of the config, or train from the start in another --out")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
