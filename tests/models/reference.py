"""Transformers in NumPy, example by example and head by head, from their papers."""

import math

import numpy as np


def normalize(x, layer, epsilon):
    """LayerNorm where there is a bias, RMSNorm where there is none."""
    if "bias" not in layer:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * layer["scale"]
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return centred / deviation * layer["scale"] + layer["bias"]


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def gelu(x):
    """By the tanh of Hendrycks & Gimpel 2016."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turn(vector, position):
    """RoPE as a product of complex numbers."""
    half = len(vector) // 2
    speed = 10_000.0 ** (-np.arange(half) / half)
    z = (vector[:half] + 1j * vector[half:]) * np.exp(1j * position * speed)
    return np.concatenate([z.real, z.imag])


def attention(x, layer, heads, *, causal, rotary):
    """One example [tokens, width], every head and every pair of tokens by itself."""
    query, key, value = (dense(x, layer[n]) for n in ("query", "key", "value"))
    size, mixed = x.shape[1] // heads, np.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[:, part], key[:, part], value[:, part]
        if rotary:
            q, k = (np.stack([turn(r, t) for t, r in enumerate(y)]) for y in (q, k))
        for t in range(len(x)):
            seen = t + 1 if causal else len(x)
            weights = np.exp([q[t] @ k[s] / math.sqrt(size) for s in range(seen)])
            mixed[t, part] = weights / weights.sum() @ v[:seen]
    return dense(mixed, layer["out"])


def blocks(x, params, depth, heads, epsilon, **options):
    for i in range(depth):
        if "blocks" in params:
            layer = pick(params["blocks"], i)
        else:
            layer = params[f"block{i + 1}"]
        y = normalize(x, layer["norm1"], epsilon)
        x = x + attention(y, layer["attention"], heads, **options)
        y = dense(normalize(x, layer["norm2"], epsilon), layer["dense1"])
        x = x + dense(gelu(y), layer["dense2"])
    return normalize(x, params["norm"], epsilon)


def pick(tree, i):
    return {k: pick(v, i) if isinstance(v, dict) else v[i] for k, v in tree.items()}


def vit(params, images, *, patch, depth, heads, pool):
    logits = []
    for image in images:
        rows = range(0, image.shape[0], patch)
        columns = range(0, image.shape[1], patch)
        cut = [
            image[r : r + patch, c : c + patch].ravel() for r in rows for c in columns
        ]
        x, where = dense(np.stack(cut), params["patches"]), params["positions"]
        registers = params.get("registers", np.zeros((0, x.shape[1])))
        if pool == "class":
            first = params["class_token"] + where[:1]
            x = np.concatenate([first, registers, x + where[1:]])
        else:
            x = np.concatenate([registers, x + where])
        x = blocks(x, params, depth, heads, 1e-6, causal=False, rotary=False)
        x = x[0] if pool == "class" else x[len(registers) :].mean(0)
        logits.append(dense(x, params["head"]))
    return np.stack(logits)


def gpt(params, tokens, *, depth, heads, positions, tied):
    table, logits = params["embed"]["embedding"], []
    for row in tokens:
        x = table[row]
        if positions == "learned":
            x = x + params["positions"][: len(row)]
        rotary = positions == "rotary"
        x = blocks(x, params, depth, heads, 1e-5, causal=True, rotary=rotary)
        logits.append(x @ (table.T if tied else params["head"]["kernel"]))
    return np.stack(logits)
