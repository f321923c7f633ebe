"""LeNet-5 and its 3-channel variant.

Max pooling comes before the activation. Both are monotone, so pooling first gives bit-identical outputs and
gradients, with a quarter of the work for the activation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet5(nn.Module):
    """Two convolutions with 6 and 16 filters of 5x5, ReLU and 2x2 max pooling, then 400-120-84-C with tanh.

    After LeCun et al. (1998), "Gradient-based learning applied to document recognition".

    `[B, in_channels, 32, 32] -> [B, num_outputs]`.
    """

    image_size = (32, 32)

    def __init__(self, in_channels: int = 1, num_outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_outputs)

    def features(self, images: Tensor) -> Tensor:
        """Return the flattened features [B, 400] of images."""
        hidden = F.relu(F.max_pool2d(self.conv1(images), 2))
        return F.relu(F.max_pool2d(self.conv2(hidden), 2)).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.tanh(self.fc1(self.features(images)))
        return self.fc3(F.tanh(self.fc2(hidden)))


class Net(LeNet5):
    """LeNet-5 for 3 channels, with ReLU in the fully connected layers too."""

    def __init__(self, in_channels: int = 3, num_outputs: int = 10) -> None:
        super().__init__(in_channels, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.fc1(self.features(images)))
        return self.fc3(F.relu(self.fc2(hidden)))
