"""The training step of `npm run bench -- gpu` in PyTorch: the same model, batch and optimizer, in bfloat16 (autocast) by torch.compile.

Layers by their letters: M is Mamba-2, - is SwiGLU, * is full attention with rotary positions (torch's scaled_dot_product_attention), S is
selective attention, which sees the last W tokens and of the older ones the K with the highest scores, in blocks. Says a line of JSON when
it is ready, then one for each line that it reads: the seconds a step of one round of steps took. It needs torch and nothing else.
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
HEAD = 64
MASKED = -1e30


def say(**line):
    print(json.dumps(line), flush=True)


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-5)


def recurrence(query, key, value, gate):
    """S_t = exp(g_t) S_(t-1) + k_t v_t^T, o_t = S_t^T q_t in chunks, as Mamba-2's paper computes it.

    query and key [batch, tokens, state], value [batch, tokens, heads, size], gate [batch, tokens, heads] in float32.
    """
    batch, tokens, heads, size = value.shape
    chunks = tokens // CHUNK
    q = query.view(batch, chunks, 1, CHUNK, -1)
    k = key.view(batch, chunks, 1, CHUNK, -1)
    v = value.view(batch, chunks, CHUNK, heads, size).transpose(2, 3)
    total = gate.view(batch, chunks, CHUNK, heads).transpose(2, 3).cumsum(-1)

    between = total.unsqueeze(-1) - total.unsqueeze(-2)
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=value.device).triu(1)
    decay = between.masked_fill(later, MASKED).exp().to(v.dtype)
    inside = ((q @ k.mT) * decay) @ v

    last = total[..., -1:]
    added = k.mT @ (v * (last - total).exp().unsqueeze(-1).to(v.dtype))
    # A chunk begins with what all chunks before it added, decayed since: one product, in place of a loop.
    at_end = last.squeeze(-1).transpose(1, 2).cumsum(-1)
    at_start = F.pad(at_end, (1, -1))
    since = at_start.unsqueeze(-1) - at_end.unsqueeze(-2)
    not_before = torch.ones(chunks, chunks, dtype=torch.bool, device=value.device).triu()
    weights = since.masked_fill(not_before, MASKED).exp().to(v.dtype)
    before = torch.einsum("bhij,bjhkv->bihkv", weights, added)
    outside = (q @ before) * total.exp().unsqueeze(-1).to(v.dtype)
    return (inside + outside).transpose(2, 3).reshape(batch, tokens, heads, size)


class Mamba2(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.heads = 2 * o.hidden // HEAD
        self.inner = 2 * o.hidden
        self.state = o.state_size
        channels = self.inner + 2 * self.state
        self.in_proj = nn.Linear(o.hidden, self.inner + channels + self.heads, bias=False)
        self.conv = nn.Conv1d(channels, channels, 4, groups=channels, padding=3)
        self.dt_bias = nn.Parameter(torch.full((self.heads,), -4.0))
        self.A_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RmsNorm(self.inner)
        self.out_proj = nn.Linear(self.inner, o.hidden, bias=False)

    def forward(self, u):
        batch, tokens, _ = u.shape
        z, xBC, dt = self.in_proj(u).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        mixed = F.silu(self.conv(xBC.transpose(1, 2))[..., :tokens].transpose(1, 2))
        x, B, C = mixed.split([self.inner, self.state, self.state], -1)
        dt = F.softplus(dt.float() + self.dt_bias)
        x = x.reshape(batch, tokens, self.heads, HEAD)
        y = recurrence(C, B, x * dt.unsqueeze(-1).to(x.dtype), -dt * self.A_log.exp())
        y = y + x * self.D.unsqueeze(-1).to(x.dtype)
        return self.out_proj(self.norm(y.reshape(batch, tokens, -1) * F.silu(z)))


class SwiGlu(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.both = nn.Linear(o.hidden, 2 * o.intermediate, bias=False)
        self.down = nn.Linear(o.intermediate, o.hidden, bias=False)

    def forward(self, x):
        gate, value = self.both(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)


class Attention(nn.Module):
    """Queries, keys and values of all heads [batch, heads, tokens, size], and the way back."""

    def __init__(self, o):
        super().__init__()
        self.heads = o.hidden // HEAD
        self.qkv = nn.Linear(o.hidden, 3 * o.hidden, bias=False)
        self.out = nn.Linear(o.hidden, o.hidden, bias=False)

    def split(self, x):
        batch, tokens, _ = x.shape
        return self.qkv(x).view(batch, tokens, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4).unbind(0)

    def merge(self, x):
        return self.out(x.transpose(1, 2).flatten(2))


class FullAttention(Attention):
    def __init__(self, o):
        super().__init__(o)
        rates = 10_000 ** (-torch.arange(0, HEAD, 2).float() / HEAD)
        angles = torch.arange(o.sequence).float()[:, None] * rates
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def turn(self, x):
        first, second = x.chunk(2, -1)
        return (x * self.cos + torch.cat([-second, first], -1) * self.sin).to(x.dtype)

    def forward(self, x):
        q, k, v = self.split(x)
        return self.merge(F.scaled_dot_product_attention(self.turn(q), self.turn(k), v, is_causal=True))


def outscores(scores):
    """[rows, i, j]: whether token i ranks before token j, by a higher score, or by the same and earlier."""
    tokens = scores.shape[-1]
    i, j = scores.unsqueeze(-1), scores.unsqueeze(-2)
    earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=scores.device).triu(1)
    return torch.where(earlier, i >= j, i > j)


class SelectiveAttention(Attention):
    def __init__(self, o):
        super().__init__(o)
        self.score = nn.Linear(o.hidden, 1)
        self.window, self.selected = o.window, o.selected
        self.block = max(32, o.window, min(o.selected, 128))

    def chosen_before(self, scores, count):
        """The places [rows, count, K] of the K highest that left the window before each block, in order; -1 for none."""
        rows = scores.shape[0]
        lead = self.block + self.window - 1
        leaving = F.pad(scores, (lead, 0), value=MASKED)[:, : count * self.block].view(rows, count, self.block)
        held = scores.new_full((rows, self.selected), MASKED)
        places = torch.full((rows, self.selected), -1, device=scores.device)
        offsets = torch.arange(self.block, device=scores.device)
        all_held, all_places = [], []
        for index in range(count):
            fresh = (offsets + (index * self.block - lead)).expand(rows, -1)
            candidates = torch.cat([held, leaving[:, index]], 1)
            best = candidates.topk(self.selected, 1).indices.sort(1).values
            held = candidates.gather(1, best)
            places = torch.cat([places, fresh], 1).gather(1, best)
            all_held.append(held)
            all_places.append(places)
        return torch.stack(all_held, 1), torch.stack(all_places, 1).clamp(min=0)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.split(x)
        scores = self.score(x).squeeze(-1).float()
        block, window, selected = self.block, self.window, self.selected
        count = tokens // block
        held, places = self.chosen_before(scores.detach(), count)
        flat = places.view(batch, 1, count * selected, 1).expand(-1, self.heads, -1, HEAD)

        def memory(x):
            """[batch, heads, tokens, size] -> [batch * count, heads, K + W - 1 + block, size]"""
            kept = x.gather(2, flat).view(batch, self.heads, count, selected, HEAD)
            shifted = F.pad(x, (0, 0, block, 0))[:, :, : count * block].view(batch, self.heads, count, block, HEAD)
            before = shifted[:, :, :, block - window + 1 :]
            own = x.view(batch, self.heads, count, block, HEAD)
            return torch.cat([kept, before, own], 3).transpose(1, 2).flatten(0, 1)

        kept = scores.gather(1, places.view(batch, -1)).view(batch, count, selected)
        kept = torch.where(held > MASKED / 2, kept, MASKED)
        shifted = F.pad(scores, (block, 0), value=MASKED)[:, : count * block].view(batch, count, block)
        known = torch.cat([kept, shifted[:, :, block - window + 1 :], scores.view(batch, count, block)], 2).flatten(0, 1)

        total = known.shape[1]
        token = torch.arange(total, device=x.device)
        own = torch.arange(block, device=x.device)[:, None] + selected + window - 1
        older = token <= own - window
        near = (token <= own) & ~older
        rank = outscores(known.detach()).cumsum(1)[:, selected - 1 : selected - 1 + block]
        counted = F.logsigmoid(known).unsqueeze(1)
        bias = torch.where(near, 0.0, torch.where(older & (rank < selected), counted, MASKED))
        bias = torch.where((known > MASKED / 2).unsqueeze(1), bias, MASKED).unsqueeze(1)
        queries = q.view(batch, self.heads, count, block, HEAD).transpose(1, 2).flatten(0, 1)
        mixed = F.scaled_dot_product_attention(queries, memory(k), memory(v), attn_mask=bias.to(queries.dtype))
        mixed = mixed.view(batch, count, self.heads, block, HEAD).transpose(1, 2).flatten(2, 3)
        return self.merge(mixed)


KINDS = {"M": Mamba2, "-": SwiGlu, "*": FullAttention, "S": SelectiveAttention}


class Model(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embedding = nn.Embedding(o.vocab, o.hidden)
        self.mixers = nn.ModuleList(KINDS[letter](o) for letter in o.layers)
        self.norms = nn.ModuleList(RmsNorm(o.hidden) for _ in o.layers)
        self.norm = RmsNorm(o.hidden)
        self.head = nn.Linear(o.hidden, o.vocab, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens):
        """The mean loss of each next token in tokens [batch, sequence + 1], in nats."""
        x = self.embedding(tokens[:, :-1])
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x))
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), tokens[:, 1:].flatten())


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", required=True, help="one letter each, such as M-M-S-")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--mode", default="compile", choices=["compile", "eager"])
    for name in ["steps", "batch", "sequence", "hidden", "intermediate", "state-size", "vocab", "window", "selected"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def main():
    o = options()
    torch.manual_seed(1)
    model = Model(o).to(o.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=o.device == "cuda"
    )
    loss_of = torch.compile(model) if o.mode == "compile" else model
    tokens = torch.randint(o.vocab, (o.steps, o.batch, o.sequence + 1), device=o.device)
    say(parameters=sum(p.numel() for p in model.parameters()))

    for _ in sys.stdin:
        start = time.perf_counter()
        for batch in tokens:
            with torch.autocast(o.device, torch.bfloat16):
                loss = loss_of(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # Reading the loss waits for the device.
        last = loss.item()
        seconds = (time.perf_counter() - start) / o.steps
        say(seconds=seconds, loss=last, peakBytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
