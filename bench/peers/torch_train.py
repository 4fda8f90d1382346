"""The training step of `npm run bench` in PyTorch: the same model, batch and optimizer.

Says a line of JSON when it is ready, then one for each line that it reads: the seconds a step of one round of steps
took. It needs torch and nothing else; `npm run bench -- --peer python3` runs it.
"""

import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

CHUNK = 64  # Tokens that the recurrence takes at once.
HEAD_DIM = 64


def say(**line):
    print(json.dumps(line), flush=True)


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


def recurrence(query, key, value, gate):
    """S_t = exp(g_t) S_(t-1) + k_t v_t^T, o_t = S_t^T q_t in chunks, as Mamba-2's paper computes it.

    query and key [batch, tokens, state], value [batch, tokens, heads, size], gate [batch, tokens, heads].
    """
    batch, tokens, heads, size = value.shape
    length = min(CHUNK, tokens)
    chunks = tokens // length
    q = query.view(batch, chunks, 1, length, -1)
    k = key.view(batch, chunks, 1, length, -1)
    v = value.view(batch, chunks, length, heads, size).transpose(2, 3)
    total = gate.view(batch, chunks, length, heads).transpose(2, 3).cumsum(-1)

    # Within a chunk: attention without softmax, weighted by the decay between two tokens.
    between = total.unsqueeze(-1) - total.unsqueeze(-2)
    later = torch.ones(length, length, dtype=torch.bool, device=value.device).triu(1)
    inside = (q @ k.mT * between.masked_fill(later, float("-inf")).exp()) @ v

    # From chunk to chunk: the state at its end, carried on.
    last = total[..., -1:]
    added = k.mT @ (v * (last - total).exp().unsqueeze(-1))
    state = torch.zeros_like(added[:, 0])
    before = []
    for chunk in range(chunks):
        before.append(state)
        state = state * last[:, chunk].exp().unsqueeze(-1) + added[:, chunk]
    outside = (q @ torch.stack(before, 1)) * total.exp().unsqueeze(-1)
    return (inside + outside).transpose(2, 3).reshape(batch, tokens, heads, size)


class Mamba2(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.heads = options.heads
        self.inner = options.heads * HEAD_DIM
        self.state = options.state_size
        channels = self.inner + 2 * self.state
        self.in_proj = nn.Linear(options.hidden, self.inner + channels + self.heads, bias=False)
        self.conv = nn.Conv1d(channels, channels, options.kernel, groups=channels, padding=options.kernel - 1)
        self.dt_bias = nn.Parameter(torch.full((self.heads,), -4.0))
        self.A_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RmsNorm(self.inner)
        self.out_proj = nn.Linear(self.inner, options.hidden, bias=False)

    def forward(self, u):
        batch, tokens, _ = u.shape
        z, xBC, dt = self.in_proj(u).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        mixed = F.silu(self.conv(xBC.transpose(1, 2))[..., :tokens].transpose(1, 2))
        x, B, C = mixed.split([self.inner, self.state, self.state], -1)
        dt = F.softplus(dt + self.dt_bias)
        x = x.reshape(batch, tokens, self.heads, HEAD_DIM)
        y = recurrence(C, B, x * dt.unsqueeze(-1), -dt * self.A_log.exp()) + x * self.D.unsqueeze(-1)
        return self.out_proj(self.norm(y.reshape(batch, tokens, -1) * F.silu(z)))


class SwiGlu(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.both = nn.Linear(options.hidden, 2 * options.intermediate, bias=False)
        self.down = nn.Linear(options.intermediate, options.hidden, bias=False)

    def forward(self, x):
        gate, value = self.both(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)


class Model(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.embedding = nn.Embedding(options.vocab, options.hidden)
        mixers = [kind(options) for _ in range(options.layers) for kind in (Mamba2, SwiGlu)]
        self.mixers = nn.ModuleList(mixers)
        self.norms = nn.ModuleList(RmsNorm(options.hidden) for _ in mixers)
        self.norm = RmsNorm(options.hidden)
        self.head = nn.Linear(options.hidden, options.vocab, bias=False)

    def forward(self, tokens):
        """The mean loss of each next token in tokens [batch, sequence + 1], in nats."""
        x = self.embedding(tokens[:, :-1])
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x))
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), tokens[:, 1:].flatten())


def adamw(model):
    settings = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **settings)
    except (RuntimeError, TypeError):  # Old versions of torch have it for GPUs only, or not at all.
        return torch.optim.AdamW(model.parameters(), **settings)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["eager", "compile"], required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    for name in ["threads", "steps", "batch", "sequence", "layers", "hidden", "intermediate", "heads"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ["state-size", "kernel", "vocab"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def main():
    o = options()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    model = Model(o).to(o.device)
    optimizer = adamw(model)
    loss_of = torch.compile(model) if o.mode == "compile" else model
    tokens = torch.randint(o.vocab, (o.steps, o.batch, o.sequence + 1), device=o.device)
    say(parameters=sum(p.numel() for p in model.parameters()))

    for _ in sys.stdin:
        start = time.perf_counter()
        for batch in tokens:
            loss = loss_of(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        # Reading the loss waits for the device.
        last = loss.item()
        seconds = (time.perf_counter() - start) / o.steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say(seconds=seconds, loss=last, peakBytes=peak if sys.platform == "darwin" else 1024 * peak)


main()
