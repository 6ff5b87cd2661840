"""The latent space of a run, over training."""
