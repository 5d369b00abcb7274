"""One file a stage; each holds what is trained and its loss (`training.loop.Stage`)."""
