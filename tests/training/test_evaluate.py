import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import losses, models
from sam_jax.training import parallel
from sam_jax.training.evaluate import Evaluator, FreshStatistics
from sam_jax.training.step import Examples

N, D = 23, 4
random = np.random.default_rng(0)
EXAMPLES = Examples(
    images=random.normal(size=(N, 1, 1, D)),
    given=random.integers(0, 3, N).astype(np.int32),
    true=random.integers(0, 3, N).astype(np.int32),
    mean=np.full(D, 0.1),
    std=np.full(D, 2.0),
)
PARTS = {
    "train": np.arange(12),
    "train_clean": np.arange(5),
    "train_noisy": np.arange(5, 12),
    "validation": np.arange(0),
    "test": np.arange(12, N),
}
LAYOUT = parallel.Layout(1, tuple(jax.devices()[:1]))


def linear():
    module = models.create("linear", num_classes=3)
    return module, models.initialize(module, jax.random.key(0), (1, 1, D), "float64")


@pytest.mark.parametrize("batch_size", [1, 5, 8, 23, 40])
def test_figures_are_means_over_the_parts_for_any_batch_size(batch_size):
    module, variables = linear()
    evaluate = Evaluator(
        module, losses.cross_entropy, LAYOUT, parts=PARTS, batch_size=batch_size
    )
    figures = evaluate(variables["params"], {}, EXAMPLES)

    head = {k: np.array(v) for k, v in variables["params"]["head"].items()}
    x = ((EXAMPLES.images - 0.1) / 2).reshape(N, D)
    z = x @ head["kernel"] + head["bias"]
    log_p = z - np.log(np.sum(np.exp(z), 1, keepdims=True))
    expected = {}
    for name, part in PARTS.items():
        if len(part) == 0:
            continue
        given = EXAMPLES.given[part]
        expected[f"{name}_loss"] = -np.mean(log_p[part, given])
        expected[f"{name}_error"] = np.mean(z[part].argmax(1) != given)
    noisy = PARTS["train_noisy"]
    wrong = z[noisy].argmax(1) != EXAMPLES.true[noisy]
    expected["train_noisy_error_true"] = np.mean(wrong)
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-6, err_msg=name)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        x = nn.BatchNorm(not train, momentum=0.97)(x)
        return nn.Dense(3)(x)


def test_fresh_statistics_are_the_mean_of_the_batches_own():
    module = Normalized()
    variables = module.init(jax.random.key(0), EXAMPLES.images, train=False)
    variables = jax.tree.map(lambda x: x.astype(jnp.float64), variables)
    fresh = FreshStatistics(module, LAYOUT, train=PARTS["train"], batch_size=5)
    stale = jax.tree.map(lambda x: x + 7.0, variables["batch_stats"])
    received = fresh(variables["params"], stale, EXAMPLES)["BatchNorm_0"]
    x = ((EXAMPLES.images - 0.1) / 2).reshape(N, D)
    batches = x[:5], x[5:10]  # the incomplete last batch is dropped
    mean = np.mean([b.mean(0) for b in batches], 0)
    var = np.mean([b.var(0) for b in batches], 0)
    np.testing.assert_allclose(received["mean"], mean, rtol=1e-9)
    np.testing.assert_allclose(received["var"], var, rtol=1e-9)


def test_fresh_statistics_of_a_net_without_batch_norm_are_none():
    module, variables = linear()
    fresh = FreshStatistics(module, LAYOUT, train=PARTS["train"], batch_size=5)
    assert fresh(variables["params"], {}, EXAMPLES) == {}
