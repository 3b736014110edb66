"""CIFAR-10 without label noise: ERM, SAM, and one after the other (Fig. 2, Fig. 10a).

Recipe (App. C): PreAct ResNet-18 of width 64 with BatchNorm, 1000 epochs of batch 128,
crops and mirroring, SGD 0.1 with momentum 0.9, l2 5e-4 in the objective, a tenth of the
learning rate at 50% and 75%, a tenth of the training set to validate.

Expected test error of the paper: erm 5.03%, sam 3.76% (training losses .0012 and
.0009); normalised 3.69% and unnormalised 3.70% in App. B.3. Best and last epoch differ
by 0.1% at most. SAM for the last 100 epochs alone improves on ERM; ERM after 900 epochs
of SAM keeps what SAM found.

fashion, last epoch, ten seeds: erm 14.7 ± .3%, sam (rho .3) 13.4 ± .4, erm_to_sam (rho
1) 14.0 ± .3, sam_to_erm 13.4 ± .4.

Variants: erm (default), sam, unnormalized, erm_to_sam, sam_to_erm; embedded
(digits, in minutes), fashion (Fashion-MNIST) or smoke joins any other:
`--config=configs/cifar10.py:sam,smoke`.
"""

from ml_collections import ConfigDict

from sam_jax.training import recipes


def get_config(names: str = "") -> ConfigDict:
    unnormalized = {"normalize": False, "rho": 0.3}  # App. B.3
    variants = {
        "erm": recipes.ascent("erm"),
        "sam": recipes.ascent("sam", rho=0.1),
        "unnormalized": recipes.ascent("sam", **unnormalized),
        "erm_to_sam": recipes.ascent("sam", rho=0.2, start_epoch=900),
        "sam_to_erm": recipes.ascent("sam", rho=0.1, stop_epoch=900),
        "embedded": recipes.embedded,
        "fashion": recipes.fashion,
        "smoke": recipes.smoke,
    }
    return recipes.choose(recipes.base(), variants, names)
