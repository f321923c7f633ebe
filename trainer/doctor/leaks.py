"""Does one column tell the target? Decided by counting, without a model. Shape letter: N samples."""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 20  # samples from which a column that tells everything is no accident
FEWEST_OTHERS = 5  # samples outside the largest class
LARGEST_ERROR = 0.02  # of the samples outside the largest class: a leak with a little noise is one too
GROUP = 5  # samples of each value on average from which values are taken as categories
SMALLEST_FIT = 0.995  # of a regression, of ranks
SMALLEST_GROUPED_FIT = 0.99  # of a regression, of ranks, by a column with many rows of each value


def tells_class(values_N: Tensor, labels_N: Tensor) -> bool:
    """Whether the class follows from the column: by thresholds between classes, or by a table of its values.

    Args:
        values_N: numbers or codes; NaN where missing, which is a value of its own.
        labels_N: int64.
    """
    labels_N = labels_N.unique(return_inverse=True)[1]
    counts = torch.bincount(labels_N)
    others = len(labels_N) - int(counts.max())
    if len(labels_N) < FEWEST or others < FEWEST_OTHERS or len(counts) < 2:
        return False
    if len(counts) * 2 > len(labels_N):  # between classes of one sample there is always a threshold
        return False
    allowed = LARGEST_ERROR * others
    codes_N = values_N.nan_to_num(nan=-torch.inf).unique(return_inverse=True)[1]  # in the order of the values
    table = torch.zeros(int(codes_N.max()) + 1, len(counts), dtype=torch.int64)
    table.index_put_((codes_N, labels_N), torch.ones_like(labels_N), accumulate=True)
    wrong = len(labels_N) - int(table.max(1).values.sum())
    if wrong > allowed:
        return False
    if len(table) * GROUP <= len(labels_N):
        return True
    changes = int((table.argmax(1).diff() != 0).sum())  # classes in separate stretches: one threshold fewer than those
    return wrong + max(0, changes - (len(counts) - 1)) / 2 <= allowed


def tells_number(values_N: Tensor, targets_N: Tensor) -> bool:
    """Whether the number is a function of the column: neighbours in the one are neighbours in the other.

    Of ranks, so that neither units nor long tails matter. Where each value stands in many rows, as categories do, the
    order of the values is of no matter: it is asked what share of the ranks' variance lies between them.
    """
    known = ~values_N.isnan()
    values_N, targets_N = values_N[known], targets_N[known]
    # Of equal values the targets must come in no order: a file may be sorted by its target.
    shuffled = torch.randperm(len(targets_N), generator=torch.Generator().manual_seed(0))
    values_N, targets_N = values_N[shuffled], targets_N[shuffled]
    if len(targets_N) < FEWEST or len(targets_N.unique()) < FEWEST / 2:
        return False
    ranks_N = targets_N.unique(return_inverse=True)[1].double()
    ordered_N = ranks_N[values_N.argsort(stable=True)]
    spread = ranks_N.var(correction=0)
    codes_N = values_N.unique(return_inverse=True)[1]
    sizes = torch.bincount(codes_N)
    if len(sizes) * GROUP <= len(values_N):
        means = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, codes_N, ranks_N) / sizes
        return float((ranks_N - means[codes_N]).square().mean() / spread) <= 1 - SMALLEST_GROUPED_FIT
    unlike = ordered_N.diff().square().mean() / (2 * spread)
    return float(1 - unlike) >= SMALLEST_FIT
