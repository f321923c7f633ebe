"""Detection of single columns that determine the target, by counting, without a model. Shape letter: N samples."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SAMPLES = 20  # with fewer, a column may determine the target by chance
MIN_OTHERS = 5  # samples outside the largest class
MAX_ERROR = 0.02  # of the samples outside the largest class: a leak may have a little noise
GROUP = 5  # samples per value on average, from which values are treated as categories
MIN_FIT = 0.995  # explained share of the variance of a regression's ranks
MIN_GROUPED_FIT = 0.99  # the same, for a column with many rows of each value


def determines_class(values_N: Tensor, labels_N: Tensor) -> bool:
    """Return whether the column determines the class, by thresholds between classes or by a table of its values.

    Values are float64 numbers or codes, and NaN (missing) is a value of its own; labels are int64.
    """
    labels_N = labels_N.unique(return_inverse=True)[1]
    counts = torch.bincount(labels_N)
    others = len(labels_N) - int(counts.max())
    if len(labels_N) < MIN_SAMPLES or others < MIN_OTHERS or len(counts) < 2:
        return False
    if len(counts) * 2 > len(labels_N):  # between classes of one sample there is always a threshold
        return False
    allowed = MAX_ERROR * others
    codes_N = values_N.nan_to_num(nan=-torch.inf).unique(return_inverse=True)[1]  # in the order of the values
    table = torch.zeros(int(codes_N.max()) + 1, len(counts), dtype=torch.int64)
    table.index_put_((codes_N, labels_N), torch.ones_like(labels_N), accumulate=True)
    wrong = len(labels_N) - int(table.max(1).values.sum())
    if wrong > allowed:
        return False
    if len(table) * GROUP <= len(labels_N):
        return True
    changes = int((table.argmax(1).diff() != 0).sum())  # classes in separate intervals have one change fewer
    return wrong + max(0, changes - (len(counts) - 1)) / 2 <= allowed


def determines_number(values_N: Tensor, targets_N: Tensor) -> bool:
    """Return whether the number is a function of the column.

    Ranks are compared, so that neither units nor long tails matter: for neighbours in the column, the targets' ranks
    must be neighbours too. If each value is in many rows, like a category, the order of the values does not matter, and
    the share of the ranks' variance that lies between the values is compared. Both are float64; values may be codes,
    and NaN if missing.
    """
    present_N = ~values_N.isnan()
    values_N, targets_N = values_N[present_N], targets_N[present_N]
    # Shuffled, because the file may be sorted by its target, which would order the targets of equal values.
    shuffled = torch.randperm(len(targets_N), generator=torch.Generator().manual_seed(0))
    values_N, targets_N = values_N[shuffled], targets_N[shuffled]
    if len(targets_N) < MIN_SAMPLES or len(targets_N.unique()) < MIN_SAMPLES / 2:
        return False
    ranks_N = targets_N.unique(return_inverse=True)[1].double()
    ordered_N = ranks_N[values_N.argsort(stable=True)]
    spread = ranks_N.var(correction=0)
    codes_N = values_N.unique(return_inverse=True)[1]
    sizes = torch.bincount(codes_N)
    if len(sizes) * GROUP <= len(values_N):
        means = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, codes_N, ranks_N) / sizes
        return float((ranks_N - means[codes_N]).square().mean() / spread) <= 1 - MIN_GROUPED_FIT
    residual = ordered_N.diff().square().mean() / (2 * spread)
    return float(1 - residual) >= MIN_FIT
