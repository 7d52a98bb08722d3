"""The iris segmentation network: a small U-Net at half resolution.

Input `image` Nx1x240x320, grey 0..1; output `logits` Nx4x240x320 of background (skin, lid, lash, glint, glasses), sclera,
visible iris, pupil. The body works at half resolution and the logits are enlarged bilinearly, so that class edges can be
read between pixels.
"""
import torch
from torch import nn
import torch.nn.functional as F

CLASSES = 4


def conv(cin, cout, k=3, s=1):
    return nn.Sequential(nn.Conv2d(cin, cout, k, s, k // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.first = conv(c, c)
        self.second = nn.Sequential(nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class EyeNet(nn.Module):
    def __init__(self, channels=(16, 24, 40, 64, 96), residuals=(0, 1, 1, 1, 1)):
        super().__init__()
        self.stem = conv(1, channels[0], 5, 2)
        self.encode = nn.ModuleList()
        for i, (c, n) in enumerate(zip(channels, residuals)):
            steps = [conv(channels[i - 1], c, 3, 2)] if i else []
            self.encode.append(nn.Sequential(*steps, *[Residual(c) for _ in range(n)]))
        self.decode = nn.ModuleList(
            [conv(channels[i] + channels[i + 1], channels[i]) for i in range(len(channels) - 2, -1, -1)]
        )
        self.head = nn.Conv2d(channels[0], CLASSES, 3, 1, 1)

    def half(self, x):
        """Logits at half resolution, Nx4x120x160."""
        x = self.stem(x * 2 - 1)
        skips = []
        for stage in self.encode:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for merge in self.decode:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = merge(torch.cat([x, skip], 1))
        return self.head(x)

    def forward(self, x):
        return F.interpolate(self.half(x), size=(240, 320), mode="bilinear", align_corners=False)
