"""The video diffuser: backbones behind one protocol, the sampler, and windows over long clips."""
