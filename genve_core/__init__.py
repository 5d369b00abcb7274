"""GenVE: reference-guided video enhancement (Chen et al., ICCV 2025), as a library.

Axes are written `b f c h w`: batch, frame, channel, height, width. Frame means pixel frame.
*video*: float in [-1, 1], (b, f, 3, h, w).   *Z*: latents of the up-sampled video; *z*: one frame of it.
*y*: latent of the image reference.   *n*: noise level of the augmentation, in [0, 1000).
*T0, T1*: start times of image and video sampling.   *key frame*: the frame that the reference depicts.
*flow*: (dx, dy) in pixels of its own grid; `flow_a_to_b[:, y, x]` says where pixel (x, y) of a lies in b.
*shot*: frames between two cuts.   *window*: frames denoised together.
*bundle*: a folder of weights that work together.
"""

__version__ = "0.1.0"
