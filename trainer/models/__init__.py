"""Models: plain `nn.Module`s that know nothing of this program, one file per family."""
