"""MoCoOp's mixture and losses against the paper's equations, written out one element at a time, in fp64."""

import math

import pytest
import torch

from trainers.mocoop import losses as L
from trainers.mocoop.routing import RouterUse, TrainingEntropies, lines

B, C, G, E, TAU = 3, 4, 5, 8, 0.07


@pytest.fixture
def random():
    torch.manual_seed(0)
    unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)  # noqa: E731
    return {
        "v": unit(B, E),
        "t": unit(G, C, E),
        "hard": [unit(i, C, E) for i in (1, 3, 2, 3, 1)],
        "r": torch.randn(B, G, dtype=torch.float64),
        "y": torch.tensor([2, 0, 3]),
    }


def softmax(values):
    exponentials = [math.exp(x) for x in values]
    return [x / sum(exponentials) for x in exponentials]


def cosine(a, b):
    return float(a @ b) / (float(a @ a) ** 0.5 * float(b @ b) ** 0.5)


@pytest.mark.parametrize("k", [1, 2, G])
def test_mixture(random, k):
    v, t, r = random["v"], random["t"], random["r"]
    weights = L.top_k_weights(r, k)
    ours, plain_sum = L.mixture_cosine(v, t, weights, L.gram(t)), L.mixture_cosine(v, t, weights)
    for b in range(B):
        chosen = sorted(range(G), key=lambda g: -float(r[b, g]))[:k]
        w = softmax([float(r[b, g]) for g in chosen])
        for c in range(C):
            mixed = sum(x * t[g, c] for x, g in zip(w, chosen))
            assert math.isclose(float(ours[b, c]), cosine(v[b], mixed), abs_tol=1e-12)
            assert math.isclose(float(plain_sum[b, c]), float(v[b] @ mixed), abs_tol=1e-12)


def test_router_target_and_losses(random):
    """Eq. 4-7: the target is the softmax of the cosines to the groups' means; KL(router ‖ target)."""
    v, hard, r = random["v"], random["hard"], random["r"]
    means = torch.stack([torch.nn.functional.normalize(h.mean(dim=(0, 1)), dim=-1) for h in hard])
    target = L.group_target(v, means)
    kl = mse = ce = 0.0
    for b in range(B):
        h_g = [sum(h[i, c] for i in range(len(h)) for c in range(C)) / (len(h) * C) for h in hard]
        expected = softmax([cosine(h, v[b]) for h in h_g])
        assert all(math.isclose(float(target[b, g]), expected[g], abs_tol=1e-12) for g in range(G))
        router = softmax([float(x) for x in r[b]])
        kl += sum(p * math.log(p / q) for p, q in zip(router, expected)) / B
        mse += sum((p - q) ** 2 for p, q in zip(router, expected)) / (B * G)
        ce += -sum(q * math.log(p) for p, q in zip(router, expected)) / B
    for kind, value in (("kl", kl), ("mse", mse), ("ce", ce)):
        assert math.isclose(float(L.router_loss(r, target, kind)), value, abs_tol=1e-12), kind
    assert float(L.router_loss(target.log(), target, "kl")) == pytest.approx(0, abs=1e-12)


def test_true_class_target(random):
    v, t, y = random["v"], random["t"], random["y"]
    target = L.true_class_target(v, t, y)
    for b in range(B):
        cosines = [float(v[b] @ t[g, y[b]]) for g in range(G)]
        best = sorted(range(G), key=lambda g: -cosines[g])[:2]
        expected = softmax([c + 10 * (g in best) for g, c in enumerate(cosines)])
        assert all(math.isclose(float(target[b, g]), expected[g], abs_tol=1e-12) for g in range(G))


def test_text_losses(random):
    """Eq. 8-9: -mean over groups and classes of log of the mean over templates of P_i."""
    t, hard = random["t"], random["hard"]
    total = prototype = 0.0
    prototypes = torch.stack([torch.nn.functional.normalize(h.mean(0), dim=-1) for h in hard])
    for g in range(G):
        for y in range(C):
            p_i = [softmax([float(hard[g][i, c] @ t[g, y]) / TAU for c in range(C)])[y] for i in range(len(hard[g]))]
            total += -math.log(sum(p_i) / len(p_i)) / (G * C)
            prototype += -math.log(softmax([float(prototypes[g, c] @ t[g, y]) for c in range(C)])[y]) / (G * C)
    assert math.isclose(float(L.text_loss_templates(t, L.by_template_count(hard), TAU)), total, abs_tol=1e-12)
    assert math.isclose(float(L.text_loss_prototype(t, prototypes)), prototype, abs_tol=1e-12)


def test_router_report(random):
    """Shares and entropies counted by hand, over two batches."""
    r = random["r"]
    use, training = RouterUse([f"e{g}" for g in range(G)], 2), TrainingEntropies()
    for part in (r[:1], r[1:]):
        use.add(part, L.top_k_weights(part, 2))
    training.add(torch.zeros(2, G), torch.eye(G)[:2], new_epoch=True)  # an earlier epoch: forgotten
    for number, part in enumerate((r[:1], r[1:])):
        training.add(part, part.softmax(dim=-1), new_epoch=number == 0)
    found = use.report()
    entropies = [-sum(p * math.log(p) for p in softmax([float(x) for x in row])) / math.log(G) for row in r]
    assert found["entropy"] == pytest.approx(sum(entropies) / B, abs=1e-6) and found["images"] == B
    assert training.report(G) == pytest.approx({"router": sum(entropies) / B, "target": sum(entropies) / B}, abs=1e-6)
    pairs = [tuple(sorted(sorted(range(G), key=lambda g: -float(row[g]))[:2])) for row in r]
    most = max(pairs.count(p) for p in pairs)
    assert found["sets"][0]["share"] == pytest.approx(most / B) and sum(s["share"] for s in found["sets"]) == pytest.approx(1)
    for g, expert in enumerate(found["experts"]):
        assert expert["chosen"] == pytest.approx(sum(g in p for p in pairs) / B)
    assert sum(e["weight"] for e in found["experts"]) == pytest.approx(1)
    assert "most frequent choice: " + " + ".join(found["sets"][0]["experts"]) in "\n".join(lines(found))
