"""The image reference (paper, section 3.2): made from a key frame, or given by the user."""
