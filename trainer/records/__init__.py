"""Files of run and sweep folders: each has one dataclass, one reader and one writer. Does not import torch."""
