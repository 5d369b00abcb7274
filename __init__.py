"""ComfyUI-GenVE: reference-guided video enhancement as ComfyUI nodes. The library itself is `genve_core`."""

import logging

WEB_DIRECTORY = "./web"


def comfy_entrypoint():
    """Called by ComfyUI when it starts. Nothing is imported before: the folder is also a plain Python project."""
    try:
        from .nodes.extension import GenVEExtension
        from .nodes.model_folder import register_folder

        register_folder()
        return GenVEExtension()
    except Exception:
        logging.exception("[GenVE] could not be loaded")  # the host alone would log one line without the place
        raise
