"""Layers: gradient reversal, attention over kernels, containers, batch norms for each domain."""

import torch
from torch import nn


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grad_scaling):
        ctx.grad_scaling = grad_scaling
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.grad_scaling * grad, None


class ReverseGrad(nn.Module):
    """Identity whose gradient is multiplied by ``-grad_scaling`` (Ganin and Lempitsky, ICML 2015)."""

    def forward(self, x, grad_scaling=1.0):
        if grad_scaling < 0:
            raise ValueError(f"grad_scaling {grad_scaling}: must not be negative")
        return _Reversal.apply(x, grad_scaling)


class Attention(nn.Module):
    """Weights [B, out_features] that sum to 1, from the channels' means of x [B, C, H, W] (Dynamic Domain Generalization)."""

    def __init__(self, in_channels, out_features, squeeze=None, bias=True):
        super().__init__()
        self.squeeze = squeeze or in_channels // 16
        if self.squeeze < 1:
            raise ValueError(f"{in_channels} channels are too few for a squeeze by 16: give squeeze")
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, self.squeeze, bias=bias)
        self.fc2 = nn.Linear(self.squeeze, out_features, bias=bias)
        self.sf = nn.Softmax(dim=-1)

    def forward(self, x):
        means = self.avg_pool(x).flatten(1)
        return self.sf(self.fc2(self.fc1(means).relu()))


class Conv2dDynamic(nn.Module):
    """A convolution plus four of other shapes, each weighted for every sample by attention (Sun et al., IJCAI 2022).

    The others: depthwise, 1 x 1, a column, a row. Sizes agree because ``padding`` is half the odd ``kernel_size``.
    """

    def __init__(
        self, in_channels, out_channels, kernel_size, stride, padding, bias=True, squeeze=None, attention_in_channels=None
    ):
        super().__init__()
        if kernel_size % 2 == 0 or padding != kernel_size // 2:
            raise ValueError(f"kernel_size {kernel_size} must be odd, and padding {padding} half of it, rounded down")

        def conv(kernel, pad, **more):
            return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=pad, bias=bias, **more)

        self.conv = conv(kernel_size, padding)
        self.kernel_templates = nn.ModuleDict()
        self.kernel_templates["conv_nn"] = conv(kernel_size, padding, groups=min(in_channels, out_channels))
        self.kernel_templates["conv_11"] = conv(1, 0)
        self.kernel_templates["conv_n1"] = conv((kernel_size, 1), (padding, 0))
        self.kernel_templates["conv_1n"] = conv((1, kernel_size), (0, padding))
        self.attention = Attention(attention_in_channels or in_channels, len(self.kernel_templates), squeeze, bias=bias)

    def forward(self, x, attention_x=None):
        weights = self.attention(x if attention_x is None else attention_x)  # [B, 4]
        out = self.conv(x)
        for i, template in enumerate(self.kernel_templates.values()):
            out = out + template(x) * weights[:, i].view(-1, 1, 1, 1)
        return out


class Sequential2(nn.Sequential):
    """nn.Sequential whose modules may take and return several values."""

    def forward(self, *inputs):
        for module in self:
            inputs = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
        return inputs


class _DomainNorm(nn.Module):
    def __init__(self, norm, num_features, n_domain):
        super().__init__()
        self.bn = nn.ModuleList(norm(num_features) for _ in range(n_domain))
        self.valid_domain_idxs = list(range(n_domain))
        self.n_domain, self.domain_idx = n_domain, 0

    def select_bn(self, domain_idx=0):
        """Use this domain's batch norm from now on."""
        if domain_idx not in self.valid_domain_idxs:
            raise ValueError(f"domain {domain_idx}: there are {self.n_domain}")
        self.domain_idx = domain_idx

    def forward(self, x):
        return self.bn[self.domain_idx](x)


class DSBN1d(_DomainNorm):
    """A batch norm for each domain, for features [B, C]."""

    def __init__(self, num_features, n_domain):
        super().__init__(nn.BatchNorm1d, num_features, n_domain)


class DSBN2d(_DomainNorm):
    """A batch norm for each domain, for images [B, C, H, W]."""

    def __init__(self, num_features, n_domain):
        super().__init__(nn.BatchNorm2d, num_features, n_domain)
