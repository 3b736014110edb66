"""Adversarial attacks on images, for any `predict(images) -> logits`.

    from sam_jax import attacks
    result = attacks.auto_attack(predict, x, y, eps=8 / 255, key=jax.random.key(0))

Images are in [0, 1], [B, height, width, channels]; norms are linf and l2. Every attack
returns attacked images, in the ball and in [0, 1].
"""

from sam_jax.attacks.apgd import apgd
from sam_jax.attacks.auto import AutoAttack, auto_attack
from sam_jax.attacks.fab import fab
from sam_jax.attacks.masking import GradientMaskingWarning
from sam_jax.attacks.objectives import dlr, dlr_targeted, margin
from sam_jax.attacks.pgd import fgsm, pgd
from sam_jax.attacks.square import square

__all__ = [
    "AutoAttack",
    "GradientMaskingWarning",
    "apgd",
    "auto_attack",
    "dlr",
    "dlr_targeted",
    "fab",
    "fgsm",
    "margin",
    "pgd",
    "square",
]
