"""AutoAttack: an ensemble without parameters (Croce & Hein 2020a, Sec. 5)."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool

from sam_jax import checks, extras
from sam_jax.attacks import geometry, inputs, masking, model, survivors
from sam_jax.attacks.apgd import apgd
from sam_jax.attacks.fab import fab
from sam_jax.attacks.geometry import Images
from sam_jax.attacks.objectives import Labels
from sam_jax.attacks.pgd import require_key
from sam_jax.attacks.square import square

Attack = Callable[..., Images]
EOT = 20  # calls a gradient is averaged over for a random network

# As in the authors' code, in this order: steps, targets and queries are the defaults.
# Its FAB has no final search.
ATTACKS: dict[str, Attack] = {
    "apgd_ce": functools.partial(apgd, loss="cross_entropy"),
    "apgd_t": functools.partial(apgd, loss="dlr_targeted"),
    "fab_t": functools.partial(fab, search_steps=0),
    "square": square,
    "apgd_dlr": functools.partial(apgd, loss="dlr"),
}
RANDOM: dict[str, Attack] = {
    "apgd_ce": functools.partial(apgd, loss="cross_entropy", eot=EOT),
    "apgd_dlr": functools.partial(apgd, loss="dlr", eot=EOT),
}
VERSIONS = {
    "standard": ("apgd_ce", "apgd_t", "fab_t", "square"),
    "rand": ("apgd_ce", "apgd_dlr"),
}
LOOK = 64  # images on which signs of masked gradients are looked for
TOLERANCE = 1e-6  # of the ball, for rounding


class AutoAttack(NamedTuple):
    """What `auto_attack` found.

    robust: whether an image is classified as its label after all attacks, bool[B].
    adversarial: for each image that is not, the point found (the image itself if it was
      misclassified at first); for the others the image. In the ball, in [0, 1].
    robust_error: share of images misclassified at first ("clean") and after each attack
      in turn, by its name.
    seconds: of each attack, with what it compiled.
    signs: of gradient masking, in words; () for none.
    """

    robust: Bool[np.ndarray, " batch"]
    adversarial: Images
    robust_error: dict[str, float]
    seconds: dict[str, float]
    signs: tuple[str, ...]


def auto_attack(
    predict: model.Predict,
    x: inputs.Given,
    y: inputs.Given,
    *,
    eps: Any,
    norm: str = "linf",
    key: Array | None = None,
    version: str = "standard",
    attacks: Sequence[str] | None = None,
    batch_size: int = 256,
    verbose: bool = True,
) -> AutoAttack:
    """Robust accuracy: every attack in turn, on the images that resisted so far.

    standard: apgd_ce, apgd_t, fab_t and square, with the parameters of the authors'
    code. The targeted two take 9 classes, or all others if there are fewer; with less
    than four classes their loss is adjusted (see `objectives.dlr_targeted`).
    rand, for a network that takes `key`: apgd_ce and apgd_dlr (without the latter for
    two classes, where it is not defined), on gradients averaged over 20 calls.

    Args:
      predict: images -> logits [B, classes], without state; normalise inside. A new
        function compiles anew: see `sam_jax.attacks.model` for other weights.
      x: images in [0, 1], [B, height, width, channels]. y: labels, integers [B].
      eps: radius of the ball, > 0. norm: linf or l2.
      attacks: names instead of a version's, in the order to run.
      batch_size: images at once; smaller remainders go in batches of a half, a quarter
        and an eighth of it.
      verbose: a progress bar.

    Returns: flags checked by a fresh forward pass, images, errors, seconds, signs.
    Raises: ValueError for bad input, and if no image is classified correctly.
    Warns: GradientMaskingWarning for every sign of it.
    """
    partial, images, labels = inputs.check(predict, x, y, eps, norm)
    checks.integer("batch_size", batch_size, 1)
    key = require_key(key, "every image is searched from random points")
    chosen = select(version, attacks, inputs.check_predict(predict, images))
    search = _Search(partial, images, labels, eps, norm, min(batch_size, len(images)))
    search.begin(key)
    correct = int(search.robust.sum())
    signs = masking.before(
        partial, *search.sample(LOOK), key, random_expected=version == "rand"
    )
    errors, seconds, misled = {"clean": search.error()}, {}, {}
    for number, (name, attack) in enumerate(chosen.items()):
        start, before = time.perf_counter(), int(search.robust.sum())
        search.run(name, attack, jax.random.fold_in(key, number), verbose)
        misled[name] = before - int(search.robust.sum())
        errors[name] = search.error()
        seconds[name] = time.perf_counter() - start
    signs += masking.after(misled, correct)
    masking.report(signs)
    adversarial = jnp.asarray(search.adversarial)
    return AutoAttack(search.robust, adversarial, errors, seconds, tuple(signs))


def select(
    version: str, attacks: Sequence[str] | None, classes: int
) -> dict[str, Attack]:
    """The attacks of a version or of these names, by name, that so many classes allow.

    Raises: ValueError for an unknown version or attack, and for dlr with two classes.
    """
    known = RANDOM if version == "rand" else ATTACKS
    names = checks.choose("version", version, VERSIONS)
    if attacks is None:
        undefined = ("apgd_dlr",) if classes < 3 else ()
        return {name: known[name] for name in names if name not in undefined}
    if not attacks or isinstance(attacks, str):
        raise ValueError(
            f"Received attacks={attacks!r}; give a list of names, such as "
            f"{list(names)}, or None."
        )
    return {name: checks.choose("attack", name, known) for name in attacks}


class _Search:
    """The images, and what was found for them so far, on the host."""

    def __init__(
        self,
        predict: Partial,
        images: Images,
        labels: Labels,
        eps: Any,
        norm: str,
        batch_size: int,
    ):
        self.predict, self.eps, self.norm = predict, eps, norm
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        self.batch_size = batch_size
        self.adversarial = self.images.copy()
        self.robust = np.ones(len(images), bool)

    def begin(self, key: Array) -> None:
        """Leaves out what is misclassified as it is.

        Raises: ValueError for logits that are not finite, or if nothing is left.
        """
        for rows, real in survivors.batches(
            np.arange(len(self.images)), self.batch_size
        ):
            images, labels = self.images[rows], self.labels[rows]
            correct, margin = model.judge(self.predict, images, labels, key)
            if not np.isfinite(margin).all():
                raise ValueError(
                    "Received logits that are not finite for some images; an attack "
                    "cannot ascend them. Check the network on these images first."
                )
            self.robust[rows[:real]] = np.asarray(correct)[:real]
        if not self.robust.any():
            raise ValueError(
                f"None of the {len(self.images)} images is classified as labelled: "
                "there is nothing to attack. Check the labels, and whether predict "
                "takes images in [0, 1], [batch, height, width, channels]."
            )

    def sample(self, count: int) -> tuple[Images, Labels]:
        """Some correctly classified images and their labels."""
        rows = np.flatnonzero(self.robust)[:count]
        return jnp.asarray(self.images[rows]), jnp.asarray(self.labels[rows])

    def error(self) -> float:
        """Share of images that are not robust."""
        return 1 - float(self.robust.mean())

    def run(self, name: str, attack: Attack, key: Array, verbose: bool) -> None:
        """One attack on the images that resist."""
        left = list(survivors.batches(np.flatnonzero(self.robust), self.batch_size))
        bar = _bar(left, name) if verbose else None
        for number, (rows, real) in enumerate(left if bar is None else bar):
            batch_key = jax.random.fold_in(key, number)
            images, labels = self.images[rows], self.labels[rows]
            points = attack(
                self.predict,
                images,
                labels,
                eps=self.eps,
                norm=self.norm,
                key=batch_key,
            )
            self._settle(rows, real, points, batch_key)
            if bar is not None:
                bar.set_postfix({"robust error": f"{self.error():.2%}"})

    def _settle(self, rows: np.ndarray, real: int, points: Images, key: Array) -> None:
        """Keeps what misleads in a fresh pass; every point is in the ball."""
        images = self.images[rows]
        length = geometry.NORMS[self.norm].length(points - images)
        assert float(jnp.max(length)) <= self.eps + TOLERANCE, "outside the ball"
        assert bool(jnp.all((points >= 0) & (points <= 1))), "outside [0, 1]"
        correct, _ = model.judge(self.predict, points, self.labels[rows], key)
        wrong = np.flatnonzero(~np.asarray(correct)[:real])
        self.adversarial[rows[wrong]] = np.asarray(points)[wrong]
        self.robust[rows[wrong]] = False


def _bar(batches: list, name: str) -> Any:
    """The batches, counted by a bar on the terminal."""
    extras.require("A progress bar (verbose=True)", "train")
    from tqdm import tqdm

    return tqdm(batches, desc=name, unit="batch")
