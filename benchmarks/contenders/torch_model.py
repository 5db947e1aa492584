"""GPT-2 in PyTorch's own idiom: fused attention, tied output layer, tanh GELU."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its name in the field


class LayerNorm(nn.Module):
    def __init__(self, dim, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, channels, heads, bias):
        super().__init__()
        self.heads = heads
        self.norm_1 = LayerNorm(channels, bias)
        self.qkv = nn.Linear(channels, 3 * channels, bias=bias)
        self.out = nn.Linear(channels, channels, bias=bias)
        self.norm_2 = LayerNorm(channels, bias)
        self.up = nn.Linear(channels, 4 * channels, bias=bias)
        self.down = nn.Linear(4 * channels, channels, bias=bias)

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)
        q, k, v = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.norm_1(x))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, options):
        super().__init__()
        C, self.context = options["channels"], options["context"]
        self.tokens = nn.Embedding(options["vocab"], C)
        self.positions = nn.Embedding(self.context, C)
        self.blocks = nn.ModuleList(Block(C, options["heads"], options["bias"]) for _ in range(options["layers"]))
        self.norm = LayerNorm(C, options["bias"])
        self.head = nn.Linear(C, options["vocab"], bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * options["layers"]) if residual else 0.02)

    def forward(self, ids, targets=None):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        if targets is None:  # inference: only the last position is of interest, as in nanoGPT
            return self.head(self.norm(x)[:, [-1]])
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))
