"""A GPT on the bytes of Python's standard library: ERM, SAM and how to spend its cost.

Recipe: sequences of 64 bytes, two blocks of width 64 with rotary positions, batches of
32 sequences, AdamW (.9, .99) with decay .1 and gradients clipped to 1, 3e-3 with a
cosine and a tenth of warm-up, no l2. An example is a sequence: m counts sequences.
`large` is GPT-2's smallest size on sequences of 1,024 in bfloat16, for an accelerator.

Expected: in `experiments/gpt.py` at scale cpu, half as wide on a fifth of the bytes,
over five seeds with rho by validation, bits per byte of held-out files: AdamW 3.11, and
2.88 with twice the steps; SAM 3.16, its direction alone 3.13, SumMax 3.18, SAM in the
last tenth 3.11. As Singh et al. 2025 (Functional-SAM) find, SAM hurts a language model
that does not overfit, and `sam_direction`, which moves the direction alone, hurts less.

Variants: erm (default), sam, sam_direction, sum_max (m = 1), late (SAM in the last
tenth), periodic (SAM in every fifth step); muon, large or smoke joins any other:
`--config=configs/gpt.py:sam_direction,muon`.
"""

from ml_collections import ConfigDict

from sam_jax.training import recipes


def base() -> ConfigDict:
    """The settings that all variants share."""
    config = recipes.base()
    config.epochs = 10
    config.batch_size = 32
    config.l2 = 0.0
    config.data.update(name="stdlib", length=64, train_examples=4096)
    config.data.augment.update(crop_padding=0, mirror=False)
    config.model.update(name="gpt", depth=2, width=64, heads=2, norm="layer")
    config.model.positions = "rotary"
    config.optimizer.update(name="adamw", beta2=0.99, weight_decay=0.1)
    config.optimizer.gradient_clip = 1.0
    config.schedule.update(name="cosine", peak=3e-3, warmup_epochs=1.0)
    config.eval.update(examples=512, batch_size=256)
    config.checkpoint.update(every_epochs=10, best=False)
    return config


def muon(config: ConfigDict) -> None:
    """Muon on hidden kernels, AdamW elsewhere (Jordan 2024)."""
    config.optimizer.update(name="muon", momentum=0.95, nesterov=True)


def large(config: ConfigDict) -> None:
    """GPT-2's 124 million parameters (Radford et al. 2019), for an accelerator."""
    config.data.update(length=1024, train_examples=0)
    config.model.update(name="gpt_small", positions="learned", dtype="bfloat16")
    config.model.scan = True
    config.schedule.peak = 6e-4


def smoke(config: ConfigDict) -> None:
    """The recipe in seconds: forty steps of one narrow block."""
    config.epochs = 3
    config.data.update(length=16, train_examples=512)
    config.model.update(name="gpt", depth=1, width=16, heads=2)
    config.eval.update(examples=64, batch_size=64)
    config.checkpoint.every_epochs = 1
    config.sam.start_epoch = min(config.sam.start_epoch, 2)


def get_config(names: str = "") -> ConfigDict:
    config = base()
    late = config.epochs * 9 // 10
    variants = {
        "erm": recipes.ascent("erm"),
        "sam": recipes.ascent("sam", rho=0.1),
        "sam_direction": recipes.ascent("sam_direction", rho=0.1),
        "sum_max": recipes.ascent("sum_max", rho=0.1, m=1),
        "late": recipes.ascent("sam", rho=0.1, start_epoch=late),
        "periodic": recipes.ascent("sam", rho=0.1, every=5),
        "muon": muon,
        "large": large,
        "smoke": smoke,
    }
    return recipes.choose(config, variants, names)
