"""Training on sequences: a bigram model in NumPy, masks, figures, and whole runs."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from sam_jax import losses
from sam_jax.training import (
    configuration,
    loading,
    loop,
    parallel,
    problem,
    state,
    step,
)
from sam_jax.training.evaluate import Evaluator
from sam_jax.training.examples import Examples
from tests.training.problems import tiny

V, T, N, RHO, RATE = 5, 4, 6, 0.3, 0.7
random = np.random.default_rng(0)
TOKENS = random.integers(0, V, (N, T)).astype(np.uint8)
LABELS = random.integers(0, V, (N, T)).astype(np.int16)
LABELS[0, 2:], LABELS[1, 0], LABELS[4, 1:] = -1, -1, -1
EXAMPLES = Examples(TOKENS, LABELS, LABELS, None, None)
LOSS = losses.over_tokens(losses.cross_entropy)


class Bigram(nn.Module):
    """The logits after a token are its row of a table."""

    @nn.compact
    def __call__(self, tokens, train):
        return nn.Embed(V, V)(tokens)


def table():
    return np.random.default_rng(1).normal(size=(V, V))


def log_p(w):
    return w - np.log(np.exp(w).sum(1, keepdims=True))


def one(w, i):
    """Loss and gradient of sequence i, token by token."""
    where = [t for t in range(T) if LABELS[i, t] >= 0]
    loss, gradient = 0.0, np.zeros_like(w)
    for t in where:
        a, b = TOKENS[i, t], LABELS[i, t]
        loss -= log_p(w)[a, b] / len(where)
        gradient[a] += (np.exp(log_p(w)[a]) - np.eye(V)[b]) / len(where)
    return loss, gradient


def mean_gradient(w):
    return np.mean([one(w, i)[1] for i in range(N)], 0)


def ascended(g):
    return RHO * g / np.linalg.norm(g)


EXPECTED = {
    "erm": mean_gradient,
    "sam": lambda w: mean_gradient(w + ascended(mean_gradient(w))),
    "sum_max": lambda w: np.mean(
        [one(w + ascended(one(w, i)[1]), i)[1] for i in range(N)], 0
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_step_counts_sequences_and_leaves_out_masked_tokens(kind):
    w = table()
    params = {"Embed_0": {"embedding": w}}
    config = configuration.check(tiny(sam__kind=kind, batch_size=N))
    optimizer = optax.identity()
    start = state.State(
        params,
        {},
        optimizer.init(params),
        None,
        jax.random.key_data(jax.random.key(0)),
        0,
    )
    new, measured = jax.jit(
        lambda s: step.train_step(
            s,
            EXAMPLES,
            step.Coefficients(RATE, RHO, 0.0),
            np.arange(N),
            module=Bigram(),
            loss=LOSS,
            take_gradient=problem.create_gradient(config),
            optimizer=optimizer,
            ema_decay=0.0,
            augment=problem.make_augment(config),
            axis_name=None,
        )
    )(start)
    np.testing.assert_allclose(
        new.params["Embed_0"]["embedding"], w - RATE * EXPECTED[kind](w), rtol=1e-10
    )
    expected = np.mean([one(w, i)[0] for i in range(N)])
    np.testing.assert_allclose(measured["loss"], expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["cross_entropy", "generalized_cross_entropy"])
def test_figures_are_means_over_tokens(name):
    """Perplexity and bits are those of the probabilities, whatever the loss is."""
    loss = losses.over_tokens(losses.create(name))
    evaluate = Evaluator(
        Bigram(),
        loss,
        parallel.Layout(1, tuple(jax.devices()[:1])),
        parts={"train": np.arange(3), "test": np.arange(2, N)},
        batch_size=4,
    )
    w = table()
    figures = evaluate({"Embed_0": {"embedding": w}}, {}, EXAMPLES)
    for part, members in (("train", range(3)), ("test", range(2, N))):
        found = [
            (
                log_p(w)[TOKENS[i, t], LABELS[i, t]],
                w[TOKENS[i, t]].argmax() != LABELS[i, t],
            )
            for i in members
            for t in range(T)
            if LABELS[i, t] >= 0
        ]
        surprise, error = (
            -np.mean([f[0] for f in found]),
            np.mean([f[1] for f in found]),
        )
        np.testing.assert_allclose(figures[f"{part}_error"], error, rtol=1e-6)
        np.testing.assert_allclose(
            figures[f"{part}_perplexity"], np.exp(surprise), rtol=1e-6
        )
        np.testing.assert_allclose(
            figures[f"{part}_bits_per_byte"], surprise / np.log(2), rtol=1e-6
        )
        if name == "cross_entropy":
            np.testing.assert_allclose(figures[f"{part}_loss"], surprise, rtol=1e-6)


def test_a_sequence_without_anything_to_predict_has_no_loss_and_no_gradient():
    logits = random.normal(size=(2, T, V))
    labels = np.array([[-1] * T, [1, -1, -1, 2]])
    value, gradient = jax.value_and_grad(lambda z: LOSS(z, labels).sum())(logits)
    expected = -np.mean([log_p(logits[1])[0, 1], log_p(logits[1])[3, 2]])
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert not gradient[0].any()
    assert not gradient[1, 1:3].any()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    path = tmp_path_factory.mktemp("story") / "story.txt"
    path.write_bytes(b"".join(b"%d bottles of beer, " % i for i in range(100)))
    return path


def of_text(path, **changes):
    changes = {
        "data__name": "text",
        "data__path": str(path),
        "data__length": 16,
        "model__name": "gpt",
        "model__norm": "layer",
        "model__depth": 1,
        "model__width": 8,
        "model__heads": 2,
        "model__max_length": 16,
        "model__dtype": "float32",
        "eval__examples": 5,
        "batch_size": 16,
        **changes,
    }
    return tiny(**changes)


def test_a_run_on_text_learns_and_says_so_in_bits(story, tmp_path):
    """From log2 of 256 bits a byte, by more than what the letters' frequencies tell."""
    config = of_text(
        story,
        epochs=8,
        optimizer__name="adam",
        schedule__peak=0.02,
        schedule__name="cosine",
        l2=0.0,
        sam__kind="sam",
        sam__rho=0.01,
        sam__start_epoch=7,
    )
    found = loop.run(config, tmp_path, silent=True)
    counts = np.unique(np.frombuffer(story.read_bytes(), np.uint8), return_counts=True)[
        1
    ]
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert found["test_bits_per_byte_last"] < entropy - 0.5
    np.testing.assert_allclose(
        2 ** found["test_bits_per_byte_last"], found["test_perplexity_last"], rtol=1e-9
    )
    assert found["best_epoch"] == 8


def test_variants_of_every_kind_can_take_steps_on_text(story, tmp_path):
    """Whole batches, groups, a batch of its own, swaps of direction and derivative,
    scaled and random perturbations, and a surrogate gap.
    """
    kinds = ("sum_max", "max_sum", "sam_direction", "sam_derivative", "asam", "gsam")
    for kind in kinds:
        config = of_text(story, sam__kind=kind, data__length=8, model__max_length=8)
        run = loop.prepare(config, tmp_path / kind)
        assert run.setup.ascent_step is not None


def test_an_evaluation_takes_some_examples_always_the_same(story):
    config = configuration.check(of_text(story))
    examples, parts, classes = loading.load_examples(config)
    chosen = loading.evaluated(config, parts)
    assert {name: len(part) for name, part in chosen.items()} == dict.fromkeys(parts, 5)
    again = loading.evaluated(config, parts)
    for name, part in chosen.items():
        np.testing.assert_array_equal(part, again[name])
        assert np.isin(part, parts[name]).all()
    everything = configuration.check(of_text(story, eval__examples=0))
    assert loading.evaluated(everything, parts) is parts
    assert (classes, examples.input_dtype) == (256, np.uint8)


def test_a_run_does_not_go_on_with_another_text(story, tmp_path):
    other = tmp_path / "story.txt"
    other.write_bytes(story.read_bytes())
    loop.prepare(of_text(other), tmp_path / "run")
    loop.prepare(of_text(other), tmp_path / "run")
    other.write_bytes(story.read_bytes().replace(b"beer", b"wine"))
    with pytest.raises(configuration.ConfigError, match="a run on other data: their"):
        loop.prepare(of_text(other), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__noise__fraction": 0.1}, "fraction=0.1, .* text has no labels to"),
        ({"data__augment__mirror": True}, "mirror=True .* is not augmented"),
        ({"attack__kind": "trades", "attack__eps": 0.1}, "pixels, and text has none"),
        ({"model__name": "conv_net"}, r"images of shape \(1, 16\); the model takes"),
        ({"model__max_length": 15}, "16 tokens for max_length=15 learned positions"),
        ({"model__norm": "batch"}, "norm of a transformer 'batch'; known: layer"),
        ({"data__length": 5000}, "data.length=5000 for a corpus of"),
        ({"data__name": "digits", "data__path": ""}, r"tokens of shape \(1, 8, 8, 1\)"),
        ({"loss__name": "binary_cross_entropy"}, "takes one logit an example"),
    ],
)
def test_what_does_not_fit_text_is_refused(story, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.prepare(of_text(story, **changes), tmp_path)
