"""From latents back to pixels, with what the latents cannot hold: the up-sampled input and the warped reference."""
