"""Adversarial training against NumPy on a linear network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax import losses, models
from sam_jax.attacks.adversary import Adversary
from sam_jax.training import (
    configuration,
    evaluate,
    parallel,
    problem,
    robust,
    setup,
    state,
    step,
    summary,
)
from sam_jax.training.examples import Examples, Pixels
from tests.training.problems import tiny

N, D, CLASSES = 12, 4, 3
RATE, RHO, EPS, L2 = 0.2, 0.4, 0.1, 0.3
random = np.random.default_rng(0)
SCALE, MEAN, STD = 1 / 16, np.full(D, 7.0), np.full(D, 3.0)
IMAGES = random.integers(0, 17, size=(N, 1, 1, D)).astype(np.uint8)
LABELS = random.integers(0, CLASSES, N).astype(np.int32)
EXAMPLES = Examples(IMAGES, LABELS, LABELS, MEAN, STD, SCALE)
UNIT = IMAGES.reshape(N, D) * SCALE
ONE = Adversary("linf", EPS, 1, EPS, "zero")


def weights():
    module = models.create("linear", num_classes=CLASSES)
    variables = models.initialize(module, jax.random.key(0), (1, 1, D), "float64")
    rng = np.random.default_rng(1)
    head = {
        "kernel": jnp.asarray(rng.normal(size=(D, CLASSES))),
        "bias": jnp.asarray(rng.normal(size=CLASSES)),
    }
    assert set(variables["params"]["head"]) == set(head)
    return module, {"head": head}


def as_stored(keys, images):
    return images


def take_step(
    adversary, paired=None, take_gradient=None, rho=RHO, augment=as_stored, **given
):
    module, params = weights()
    config = configuration.check(tiny(sam__kind="sam"))
    optimizer = state.make_optimizer(config.optimizer)
    now = state.State(
        params,
        {},
        optimizer.init(params),
        None,
        jax.random.key_data(jax.random.key(0)),
        jnp.zeros((), jnp.int32),
    )
    take = functools.partial(
        step.train_step,
        module=module,
        loss=losses.cross_entropy,
        take_gradient=take_gradient or problem.create_gradient(config),
        optimizer=optimizer,
        ema_decay=0.0,
        augment=augment,
        axis_name=None,
        adversary=adversary,
        paired=paired,
    )
    coefficients = step.Coefficients(
        np.array(RATE), np.array(rho), np.array(L2), **given
    )
    new, measured = jax.jit(take)(now, EXAMPLES, coefficients, np.arange(N))
    head = params["head"], new.params["head"]
    old, moved = ((np.asarray(h["kernel"]), np.asarray(h["bias"])) for h in head)
    return old, moved, measured


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def normalized(unit):
    return (unit / SCALE - MEAN) / STD


def residual(w, b, unit, labels=LABELS):
    return softmax(normalized(unit) @ w + b) - np.eye(CLASSES)[labels]


def attacked(w, b, eps=EPS, labels=LABELS):
    """One step of length eps along the sign of the input gradient."""
    slope = residual(w, b, UNIT, labels) @ w.T
    return np.clip(UNIT + eps * np.sign(slope), 0, 1)


def gradient(w, b, unit):
    r = residual(w, b, unit) / N
    return normalized(unit).T @ r + L2 * w, r.sum(0) + L2 * b


def test_ascent_and_descent_are_on_the_batch_attacked_at_w():
    (w, b), received, measured = take_step(ONE)
    unit = attacked(w, b)
    gw, gb = gradient(w, b, unit)
    length = np.sqrt((gw**2).sum() + (gb**2).sum())
    gw, gb = gradient(w + RHO * gw / length, b + RHO * gb / length, unit)
    np.testing.assert_allclose(received[0], w - RATE * gw, rtol=1e-10)
    np.testing.assert_allclose(received[1], b - RATE * gb, rtol=1e-10)
    wrong = (normalized(unit) @ w + b).argmax(1) != LABELS
    np.testing.assert_allclose(measured["error"], wrong.mean())


def pairs(weight, adversary=ONE, **options):
    def paired(loss, coefficients):
        return robust.pairing_loss(loss, coefficients.pairing)

    options |= {"pairing": np.array(weight)}
    return take_step(adversary, paired, step.plain_gradient, **options)


def test_the_pairing_term_pulls_attacked_and_other_logits_together():
    (w, b), received, measured = pairs(0.7)
    unit = attacked(w, b)
    gw, gb = gradient(w, b, unit)
    apart = normalized(unit) - normalized(UNIT)  # nothing is augmented here
    gw = gw + 0.7 * 2 * apart.T @ (apart @ w) / N  # of lambda / N sum |apart W|^2
    np.testing.assert_allclose(received[0], w - RATE * gw, rtol=1e-10)
    np.testing.assert_allclose(received[1], b - RATE * gb, rtol=1e-10)
    p = softmax(normalized(unit) @ w + b)[np.arange(N), LABELS]
    expected = np.mean(-np.log(p) + 0.7 * ((apart @ w) ** 2).sum(1))
    np.testing.assert_allclose(measured["loss"], expected, rtol=1e-10)
    wrong, clean = (
        np.mean((normalized(x) @ w + b).argmax(1) != LABELS) for x in (unit, UNIT)
    )
    assert wrong > clean
    np.testing.assert_allclose(measured["error"], wrong)


def test_the_other_image_of_a_pair_is_augmented_anew():
    def reverse_some(keys, images):
        chosen = jax.vmap(jax.random.bernoulli)(keys)
        return jnp.where(chosen[:, None, None, None], images[..., ::-1], images)

    nowhere = Adversary("linf", 0.0, 1, 0.0, "zero")
    (w, b), _, measured = pairs(0.7, nowhere, augment=reverse_some)
    key = jax.random.fold_in(jax.random.key(0), 0)
    roots = jax.random.split(key, 3)[0], jax.random.fold_in(key, step.PAIR)
    stored = IMAGES.reshape(N, 1, 1, D)
    units = [
        np.asarray(reverse_some(jax.random.split(k, N), stored)).reshape(N, D) * SCALE
        for k in roots
    ]
    attacked, other = (normalized(unit) @ w + b for unit in units)
    log_p = np.log(softmax(attacked)[np.arange(N), LABELS])
    expected = np.mean(-log_p + 0.7 * ((attacked - other) ** 2).sum(1))
    assert np.any(attacked != other)
    np.testing.assert_allclose(measured["loss"], expected, rtol=1e-10)


def test_a_pairing_term_of_weight_zero_is_adversarial_training():
    _, expected, _ = take_step(ONE, take_gradient=step.plain_gradient)
    _, received, _ = pairs(0.0)
    np.testing.assert_allclose(received[0], expected[0], rtol=1e-12)


def test_trades_is_the_clean_loss_and_a_divergence():
    attacked, clean = np.random.default_rng(0).normal(size=(2, 5, CLASSES))
    logits = robust.Pair(jnp.asarray(attacked), jnp.asarray(clean))
    y = jnp.array([0, 1, 2, 0, 1])
    p, q = softmax(clean), softmax(attacked)
    expected = -np.log(p[np.arange(5), y]) + 6 * (p * np.log(p / q)).sum(1)
    received = robust.trades_loss(losses.cross_entropy, 6.0)(logits, y)
    np.testing.assert_allclose(received, expected, rtol=1e-10)


def in_unit_cube(module, params):
    """Images in [0, 1] -> logits."""
    pixels = Pixels(MEAN, STD, SCALE)

    def predict(unit):
        return module.apply({"params": params}, pixels.normalized(unit), train=False)

    return predict


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_trades_attack_raises_the_divergence(norm):
    module, params = weights()
    predict = in_unit_cube(module, params)
    adversary = Adversary(norm, EPS, 5, EPS / 2, "random", trades=True)
    keys = jax.random.split(jax.random.key(0), N)
    unit = jnp.asarray(UNIT.reshape(N, 1, 1, D))
    points = adversary.attack(predict, keys, unit, jnp.asarray(LABELS))
    begin = adversary.begin(keys, unit)
    before, after = (
        losses.divergence(predict(unit), predict(x)) for x in (begin, points)
    )
    assert np.all(after > before)
    assert np.all((points >= 0) & (points <= 1))


def test_trades_attack_ascends_the_divergence_of_the_clean_prediction():
    """Steps of length EPS along the gradient of KL(p | q) by q's image: (q - p) W^T."""
    module, params = weights()
    w, b = (np.asarray(params["head"][k]) for k in ("kernel", "bias"))
    predict = in_unit_cube(module, params)
    adversary = Adversary("l2", 5 * EPS, 3, EPS, "random", trades=True)
    keys = jax.random.split(jax.random.key(0), N)
    unit = jnp.asarray(UNIT.reshape(N, 1, 1, D))
    points = np.asarray(adversary.begin(keys, unit)).reshape(N, D)
    p = softmax(normalized(UNIT) @ w + b)
    for _ in range(3):
        slope = (softmax(normalized(points) @ w + b) - p) @ w.T
        points = points + EPS * slope / np.linalg.norm(slope, axis=1, keepdims=True)
        points = np.clip(points, 0, 1)  # the ball is out of reach
    received = adversary.attack(predict, keys, unit, jnp.asarray(LABELS))
    np.testing.assert_allclose(received.reshape(N, D), points, atol=1e-9)


def test_normalisation_and_back():
    pixels = Pixels(MEAN, STD, SCALE)
    unit = jnp.asarray(UNIT)
    np.testing.assert_allclose(pixels.normalized(unit), normalized(UNIT), rtol=1e-12)
    np.testing.assert_allclose(pixels.unit(pixels.normalized(unit)), UNIT, atol=1e-12)


@pytest.mark.parametrize("batch_size", [5, 12])
def test_robust_errors_of_an_evaluation(batch_size):
    module, params = weights()
    w, b = (np.asarray(params["head"][k]) for k in ("kernel", "bias"))
    labels = (normalized(UNIT) @ w + b).argmax(1).astype(np.int32)
    layout = parallel.Layout(1, tuple(jax.devices()[:1]))
    parts = {
        "train": np.arange(7),
        "train_clean": np.arange(7),
        "test": np.arange(7, N),
    }
    figures = evaluate.Evaluator(
        module,
        losses.cross_entropy,
        layout,
        parts=parts,
        batch_size=batch_size,
        adversary=Adversary("linf", 0.05, 1, 0.05, "zero"),
    )(params, {}, EXAMPLES._replace(given=labels))
    wrong = (normalized(attacked(w, b, 0.05, labels)) @ w + b).argmax(1) != labels
    assert 0 < wrong[:7].mean() != wrong[7:].mean()
    np.testing.assert_allclose(figures["train_robust_error"], wrong[:7].mean())
    np.testing.assert_allclose(figures["test_robust_error"], wrong[7:].mean())
    assert figures["train_error"] == figures["test_error"] == 0
    assert "train_clean_robust_error" not in figures


def test_the_start_of_an_image_is_its_own():
    adversary = Adversary("l2", EPS, 1, EPS, "random")
    keys = jax.random.split(jax.random.key(0), N)
    unit = jnp.asarray(UNIT.reshape(N, 1, 1, D))
    whole = adversary.begin(keys, unit)
    half = adversary.begin(keys[6:], unit[6:])
    np.testing.assert_array_equal(whole[6:], half)


def test_the_pairing_term_starts_at_half_of_the_training():
    config = configuration.check(
        tiny(
            epochs=4,
            attack__kind="adversarial",
            attack__eps=0.1,
            pairing__weight=2.0,
        )
    )
    received = setup.tabulate_coefficients(config, 5).pairing
    np.testing.assert_array_equal(received, [0] * 10 + [2] * 10)


def test_default_steps_are_the_papers():
    config = configuration.check(tiny(attack__kind="trades", attack__eps=0.1))
    adversary = robust.training_adversary(config.attack)
    assert adversary == Adversary("linf", 0.1, 5, 0.04, "random", trades=True)
    assert robust.evaluation_adversary(config.attack) is None
    config = configuration.check(tiny(attack__eps=0.1, attack__eval_steps=10))
    assert robust.training_adversary(config.attack) is None
    assert robust.evaluation_adversary(config.attack).step_size == 0.025


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack__kind": "adversarial"}, r"attack\.eps=0 with .*'adversarial'"),
        ({"attack__eval_steps": 3}, r"attack\.eps=0 .*attack\.eval_steps=3"),
        (
            {"attack__kind": "trades", "attack__eps": 1, "sam__kind": "max_sum"},
            "would not be attacked",
        ),
        ({"pairing__weight": 1.0}, r"pairing\.weight=1\.0 with attack\.kind='none'"),
        ({"attack__norm": "l1"}, r"attack\.norm='l1'; it must be one of linf, l2"),
    ],
)
def test_what_does_not_go_together(changes, message):
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.check(tiny(**changes))


def test_the_best_epoch_has_the_least_robust_validation_error():
    def record(epoch, clean, attacked):
        return {
            "epoch": epoch,
            "step": epoch,
            "seconds": 1.0,
            "validation_error": clean,
            "validation_robust_error": attacked,
            "test_error": clean,
            "test_robust_error": attacked,
            "train_loss": 1.0,
        }

    history = [record(1, 0.2, 0.7), record(2, 0.3, 0.5), record(3, 0.1, 0.6)]
    received = summary.summarize(history)
    assert received["best_epoch"] == 2
    assert received["test_robust_error_best"] == 0.5
    assert received["test_robust_error_last"] == 0.6
    assert "robust test best" in summary.table({"AT": received})
