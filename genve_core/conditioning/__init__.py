"""Conditioning augmentation (paper, section 3.3): noise, flow and warp, masking."""
