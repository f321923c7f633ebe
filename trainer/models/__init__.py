"""Models: plain nn.Modules that know nothing of this program; one file a family."""
