"""Small convolutional networks from introductory courses."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CNN(nn.Module):
    """Two convolutions with 5 and 10 filters of 5x5, 2x2 max pooling and ReLU, then linear layers 250-32-C.

    `[B, in_channels, 32, 32] -> [B, num_outputs]`.
    """

    image_size = (32, 32)

    def __init__(self, in_channels: int = 3, num_outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 5, 5)
        self.conv2 = nn.Conv2d(5, 10, 5)
        self.fc1 = nn.Linear(10 * 5 * 5, 32)
        self.fc2 = nn.Linear(32, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        # Pooling before ReLU: same result, a quarter of the work (see lenet.py).
        hidden = F.relu(F.max_pool2d(self.conv1(images), 2))
        hidden = F.relu(F.max_pool2d(self.conv2(hidden), 2))
        return self.fc2(F.relu(self.fc1(hidden.flatten(1))))


class SequentialCNN(nn.Sequential):
    """Two convolutions with 10 and 20 filters of 5x5 without pooling, then a hidden layer of 200, all with ReLU.

    `[B, in_channels, H, W] -> [B, num_outputs]`; 28x28 images give 8,000 flattened features.

    Args:
        in_channels: channels of the images.
        num_outputs: outputs per image.
        image_size: height and width, at least 9 pixels each.
    """

    def __init__(self, in_channels: int = 1, num_outputs: int = 10, image_size: tuple[int, int] = (28, 28)) -> None:
        height, width = image_size
        if min(height, width) < 9:
            raise ValueError(f"expected images of at least 9x9, not {height}x{width}")
        super().__init__(
            nn.Conv2d(in_channels, 10, 5),
            nn.ReLU(),
            nn.Conv2d(10, 20, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20 * (height - 8) * (width - 8), 200),
            nn.ReLU(),
            nn.Linear(200, num_outputs),
        )
