"""Adapters and losses written out in plain Python numbers, formula by formula: what the fast ones are compared with.

Nothing here knows torch or the product. A matrix is an (n, D) float64 array, read one number at a time; parameters are
given by the names that they have in a module's state, under a prefix such as ``"adapter."``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = Mapping[str, Array]
EPS = 1e-5  # of BatchNorm and LayerNorm


def linear(x: Array, p: Parameters, name: str) -> Array:
    """x W' + b, one product at a time."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    out = np.zeros((len(x), len(bias)))
    for i in range(len(x)):
        for j in range(len(bias)):
            out[i, j] = math.fsum(float(x[i, k]) * float(weight[j, k]) for k in range(x.shape[1])) + float(bias[j])
    return out


def moments(x: Array) -> tuple[list[float], list[float]]:
    """Mean and biased variance of each column."""
    means = [math.fsum(column) / len(x) for column in x.T]
    return means, [math.fsum((v - mean) ** 2 for v in column) / len(x) for column, mean in zip(x.T, means, strict=True)]


def batch_norm(x: Array, p: Parameters, name: str, *, running: bool) -> Array:
    """Column by column, with the running moments or with the batch's own."""
    means, variances = moments(x)
    if running:
        means, variances = p[f"{name}.running_mean"].tolist(), p[f"{name}.running_var"].tolist()
    out = np.zeros_like(x)
    for j, (mean, variance) in enumerate(zip(means, variances, strict=True)):
        for i in range(len(x)):
            unit = (float(x[i, j]) - mean) / math.sqrt(variance + EPS)
            out[i, j] = unit * float(p[f"{name}.weight"][j]) + float(p[f"{name}.bias"][j])
    return out


def layer_norm(x: Array, p: Parameters, name: str) -> Array:
    """Row by row."""
    means, variances = moments(x.T)
    out = np.zeros_like(x)
    for i, (mean, variance) in enumerate(zip(means, variances, strict=True)):
        for j in range(x.shape[1]):
            unit = (float(x[i, j]) - mean) / math.sqrt(variance + EPS)
            out[i, j] = unit * float(p[f"{name}.weight"][j]) + float(p[f"{name}.bias"][j])
    return out


def each(x: Array, function: Callable[[float], float]) -> Array:
    """A function of every entry."""
    return np.array([[function(float(value)) for value in row] for row in x]).reshape(x.shape)


def softmax(z: Array) -> Array:
    """Row by row; each row's largest entry is taken out first."""
    rows = []
    for row in z:
        powers = [math.exp(float(value) - float(max(row))) for value in row]
        rows.append([power / math.fsum(powers) for power in powers])
    return np.array(rows).reshape(z.shape)


def unit(x: Array) -> Array:
    """Rows of norm 1."""
    return np.array([[float(v) / math.sqrt(math.fsum(float(w) ** 2 for w in row)) for v in row] for row in x])


def tanh_attention(x: Array, p: Parameters, prefix: str = "") -> Array:
    """FedCLIP: softmax(W2 tanh(W1 x + b1) + b2)."""
    return softmax(linear(each(linear(x, p, f"{prefix}project_in"), math.tanh), p, f"{prefix}project_out"))


def attention(x: Array, p: Parameters, prefix: str = "", *, running: bool) -> Array:
    """FACMIC and FAA-CLIP: softmax(W2 leaky(norm(W1 x + b1)) + b2), with one more block where there is one."""

    def block(x: Array, project: str, norm: str) -> Array:
        hidden = linear(x, p, prefix + project)
        batch = f"{prefix}{norm}.running_mean" in p
        normed = (
            batch_norm(hidden, p, prefix + norm, running=running) if batch else layer_norm(hidden, p, prefix + norm)
        )
        return each(normed, lambda value: value if value > 0 else 0.01 * value)

    hidden = block(x, "project_in", "norm")
    if f"{prefix}project_between.weight" in p:
        hidden = block(hidden, "project_between", "norm_between")
    return softmax(linear(hidden, p, f"{prefix}project_out"))


def adapt(x: Array, p: Parameters, prefix: str = "", *, running: bool) -> Array:
    """normalise(g(I) * I), with the adapter that the parameters are of."""
    plain = f"{prefix}norm.weight" not in p
    weights = tanh_attention(x, p, prefix) if plain else attention(x, p, prefix, running=running)
    return unit(weights * x)


def cosine_logits(x: Array, text: Array, scale: float) -> Array:
    """s I T'."""
    return np.array([[scale * math.fsum(a * b for a, b in zip(row, t, strict=True)) for t in text] for row in x])


def cross_entropy(logits: Array, targets: Sequence[int]) -> float:
    """Mean of -log softmax at the target."""
    chosen = softmax(logits)
    return -math.fsum(math.log(chosen[i, y]) for i, y in enumerate(targets)) / len(targets)


def class_prompt(
    adapted: Array, labels: Sequence[int], text: Array, scale: float, adjustment: Sequence[float] | None = None
) -> float:
    """Cross-entropy against every class's prompt, something added to every row of logits."""
    logits = cosine_logits(adapted, text, scale)
    if adjustment is not None:
        logits = np.array([[z + more for z, more in zip(row, adjustment, strict=True)] for row in logits])
    return cross_entropy(logits, labels)


def in_batch(adapted: Array, labels: Sequence[int], text: Array, scale: float) -> float:
    """CLIP's symmetric loss: row i belongs to the text of row i and to no other."""
    logits = cosine_logits(adapted, np.array([text[y] for y in labels]), scale)
    diagonal = range(len(labels))
    return (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2


def squared_distances(points: Array) -> Array:
    """Pair by pair, coordinate by coordinate."""
    return np.array([[math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in points] for x in points])


def mean_distance(points: Array) -> float:
    """Mean squared distance over all ordered pairs of different points."""
    n = len(points)
    return math.fsum(squared_distances(points).ravel()) / max(n * n - n, 1)


def kernels(points: Array, mean: float | None = None) -> Array:
    """Sum over k = 0..4 of exp(-d / (mean d / 4 * 2^k)); 5 where d = 0."""
    distances = squared_distances(points)
    scale = mean_distance(points) if mean is None else mean
    return each(
        distances, lambda d: 5.0 if d == 0.0 else math.fsum(math.exp(-d / (scale / 4.0 * 2.0**k)) for k in range(5))
    )


def lmmd(
    source: Array, labels: Sequence[int], reference: Array, probabilities: Array, mean: float | None = None
) -> float:
    """Zhu et al. 2020, equation 7, with the class weights of equation 5, over classes that both sides have."""
    labels = list(labels)
    guessed = {max(range(len(row)), key=lambda c, row=row: row[c]) for row in probabilities}  # type: ignore[misc]
    common = sorted(set(labels) & guessed)
    if not common:
        return 0.0
    n, m = len(source), len(reference)
    kernel = kernels(np.concatenate([source, reference]), mean)
    terms = []
    for c in common:
        ws = [float(label == c) / labels.count(c) for label in labels]
        column = math.fsum(probabilities[:, c])
        wt = [float(p) / column for p in probabilities[:, c]]
        terms += [ws[i] * ws[j] * kernel[i, j] for i in range(n) for j in range(n)]
        terms += [wt[i] * wt[j] * kernel[n + i, n + j] for i in range(m) for j in range(m)]
        terms += [-2.0 * ws[i] * wt[j] * kernel[i, n + j] for i in range(n) for j in range(m)]
    return math.fsum(terms) / len(common)


def domain_logits(x: Array, p: Parameters, prefix: str = "domain.") -> list[float]:
    """Linear - norm - ReLU - Linear - norm - ReLU - Linear; BatchNorm by all rows together, else LayerNorm.

    Which norm it is cannot be read from the parameters; ``p["layer_norm"]`` says it, where it is there.
    """
    for project, norm in ((0, 1), (3, 4)):
        x = linear(x, p, f"{prefix}layers.{project}")
        name = f"{prefix}layers.{norm}"
        x = layer_norm(x, p, name) if "layer_norm" in p else batch_norm(x, p, name, running=False)
        x = each(x, lambda value: max(value, 0.0))
    return [float(value) for value in linear(x, p, f"{prefix}layers.6")[:, 0]]


def adversarial(source: Array, reference: Array, p: Parameters, prefix: str = "domain.") -> float:
    """Mean of the two domains' binary cross-entropies, source 0, reference 1."""
    logits = domain_logits(np.concatenate([source, reference]), p, prefix)
    own = [math.log1p(math.exp(z)) for z in logits[: len(source)]]  # -log(1 - sigmoid(z))
    other = [math.log1p(math.exp(-z)) for z in logits[len(source) :]]  # -log sigmoid(z)
    return (math.fsum(own) / len(own) + math.fsum(other) / len(other)) / 2
