"""ComfyUI nodes: each converts, calls `genve_core`, and converts back. `extension.py` lists them."""
