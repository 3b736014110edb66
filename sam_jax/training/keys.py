"""Every key of a run's configuration, declared once: meaning, range, default.

The base recipe (`recipes.base`) is made of the defaults, which are the paper's
settings for deep networks (App. C) on CIFAR-10 without noise. A new key is a row here
and the place that reads it; runs and results saved before it are read with its default.
"""

from sam_jax.attacks.geometry import NORMS
from sam_jax.attacks.pgd import STARTS
from sam_jax.data.noise import NOISES
from sam_jax.training.key_types import (
    Change,
    Key,
    choice,
    mapping,
    member,
    number,
    resume,
    run,
    several,
    since,
    switch,
    text,
    whole,
)
from sam_jax.transforms import VARIANTS

KEYS: dict[str, Key] = {
    "seed": member(
        whole(
            0,
            0,
            "seed of initialisation, noise, split, order and augmentation",
            high=2**32 - 1,  # jax.random.key takes no more bits
        )
    ),
    "epochs": run(whole(1000, 1, "passes over the training set")),
    "batch_size": whole(128, 1, "examples a step, over all devices"),
    "devices": resume(whole(0, 0, "devices to use; 0 for all there are")),
    "parallel.kind": resume(
        since(
            "0.2.0",
            choice(
                "pmap",
                ("pmap", "sharded"),
                "layout: every device has the whole state, or its part of it on a mesh",
            ),
        )
    ),
    "parallel.data": resume(
        since(
            "0.2.0", whole(0, 0, "places of the mesh that hold copies; 0 for the rest")
        )
    ),
    "parallel.fsdp": resume(
        since("0.2.0", whole(1, 1, "places that share a copy, and the copy's batch"))
    ),
    "parallel.tensor": resume(
        since("0.2.0", whole(1, 1, "places that share a copy, not its batch"))
    ),
    "parallel.min_size": resume(
        since("0.2.0", whole(2**16, 0, "entries below which a leaf is not sharded"))
    ),
    "parallel.rules": resume(
        since("0.2.0", several((), str, "how leaves are sharded, as PATTERN=AXIS,AXIS"))
    ),
    "init_from": run(
        text("", "work directory of a finished run to start from; '' for none")
    ),
    "l2": member(
        number(
            5e-4,
            "[0, inf)",
            "penalty l2/2 |w|^2 of all parameters, a part of the objective and ascent",
        )
    ),
    "data.name": run(text("cifar10", "data set, or package.module:attribute")),
    "data.options": run(
        since("0.2.0", mapping("handed to the function of a data set of your own"))
    ),
    "data.classes": run(several((), str, "names of the classes kept; () for all")),
    "data.resize": since(
        "0.2.0",
        whole(0, 0, "side of the images after means of blocks; 0 to leave them"),
    ),
    "data.feed": run(
        since(
            "0.2.0",
            choice(
                "memory",
                ("memory", "stream"),
                "all examples on the devices, or read from records as the run goes on",
            ),
        )
    ),
    "data.path": run(
        since("0.2.0", text("", "file or folder of data.name='text'; '' for others"))
    ),
    "data.length": since("0.2.0", whole(128, 1, "bytes of a sequence of text")),
    "data.train_examples": run(
        since(
            "0.2.0",
            whole(0, 0, "random training examples kept, balanced by class; 0 for all"),
        )
    ),
    "data.noise.kind": run(choice("uniform", NOISES, "how labels are replaced")),
    "data.noise.fraction": member(
        number(0.0, "[0, 1]", "fraction of training labels replaced")
    ),
    "data.noise.exclude_true": run(
        switch(False, "replaced labels are never the true ones")
    ),
    "data.noise.mapping": run(
        several((), int, "asymmetric: class c becomes mapping[c]")
    ),
    "data.validation_fraction": run(
        number(0.1, "[0, 1)", "part of training kept to validate")
    ),
    "data.augment.crop_padding": whole(4, 0, "pixels of padding before a random crop"),
    "data.augment.mirror": switch(True, "flip left and right at random"),
    "model.name": text("preact_resnet18", "network, or package.module:attribute"),
    "model.options": since(
        "0.2.0", mapping("handed to what makes a network of your own")
    ),
    "model.width": whole(
        64, 1, "channels of a ResNet's first stage, or features of a token"
    ),
    "model.norm": choice(
        "batch",
        ("batch", "group", "layer", "rms"),
        "normalisation: batch or group of a ResNet, layer or rms of vit and gpt",
    ),
    "model.groups": whole(0, 0, "groups of GroupNorm; 0 for width // 2", unset=0),
    "model.widths": several(
        (16, 32), int, "units or channels of mlp's or conv_net's layers"
    ),
    "model.hidden": whole(64, 1, "units of conv_net's dense layer"),
    "model.activation": text("relu", "of mlp"),
    "model.depth": since("0.2.0", whole(4, 1, "blocks of vit or gpt")),
    "model.heads": since("0.2.0", whole(4, 1, "heads of their attention")),
    "model.mlp_ratio": since(
        "0.2.0", whole(4, 1, "hidden units of their blocks over the width")
    ),
    "model.scan": since("0.2.0", switch(False, "compile their blocks as one loop")),
    "model.patch": since("0.2.0", whole(4, 1, "pixels of a side of vit's patches")),
    "model.registers": since("0.2.0", whole(0, 0, "further tokens of vit")),
    "model.pool": since(
        "0.2.0", choice("class", ("class", "mean"), "what vit's head reads")
    ),
    "model.positions": since(
        "0.2.0", choice("learned", ("learned", "rotary"), "positions of gpt")
    ),
    "model.max_length": since(
        "0.2.0", whole(1024, 1, "longest sequence of gpt's learned positions")
    ),
    "model.tied": since(
        "0.2.0", switch(True, "gpt's logits are products with its embeddings")
    ),
    "model.dtype": choice(
        "float32", ("float32", "bfloat16", "float64"), "arithmetic of the net"
    ),
    "loss.name": text("cross_entropy", "loss of one example"),
    "loss.q": number(0.7, "[0, 1]", "exponent of generalized_cross_entropy"),
    "loss.label_smoothing": number(0.0, "[0, 1)", "mass spread over all classes"),
    "optimizer.name": choice("sgd", ("sgd", "adam", "adamw", "muon"), "base optimiser"),
    "optimizer.momentum": number(0.9, "[0, 1)", "momentum of sgd and muon"),
    "optimizer.nesterov": switch(False, "Nesterov's momentum"),
    "optimizer.beta1": number(0.9, "[0, 1)", "decay of adam's first moment"),
    "optimizer.beta2": number(0.999, "[0, 1)", "decay of adam's second moment"),
    "optimizer.epsilon": number(1e-8, "(0, inf)", "adam's guard of the denominator"),
    "optimizer.weight_decay": number(
        0.0, "[0, inf)", "decoupled decay, no part of the ascent"
    ),
    "optimizer.gradient_clip": number(
        0.0, "[0, inf)", "largest gradient norm; 0 for none"
    ),
    "schedule.name": run(text("piecewise_constant", "learning rate over steps")),
    "schedule.peak": member(number(0.1, "(0, inf)", "largest learning rate")),
    "schedule.warmup_epochs": run(
        number(0.0, "[0, inf)", "epochs of linear warm-up from 0")
    ),
    "sam.kind": choice(
        "erm", ("erm", *VARIANTS), "SAM variant by its public name, or erm: no ascent"
    ),
    "sam.rho": member(
        number(0.1, "[0, inf)", "ascent radius, or step size if unnormalised")
    ),
    "sam.rho_schedule": run(
        text("constant", "rho over steps, from the learning-rate schedules")
    ),
    "sam.m": whole(
        0,
        0,
        "examples that share a perturbation; 0 for the variant's own: a single one in "
        "sum_max, the whole batch in the others",
        unset=0,
    ),
    "sam.chunk": whole(0, 0, "groups of m worked on at once; 0 for all", unset=0),
    "sam.normalize": switch(True, "perturbations of length rho; False: rho times g"),
    "sam.eta": number(0.01, "[0, inf)", "offset of adaptive scaling |w| + eta"),
    "sam.alpha": number(0.4, "[0, inf)", "weight of gsam's surrogate gap"),
    "sam.sigma": since(
        "0.2.0", number(1.0, "[0, inf)", "weight of friendly_sam's average gradient")
    ),
    "sam.decay": since(
        "0.2.0",
        number(
            0.0,
            "[0, 1)",
            "decay of a variant's moving average; 0 for the variant's own",
            unset=0.0,
        ),
    ),
    "sam.theta": since(
        "0.2.0", number(0.4, "(0, 1]", "weight of this step's gradient in vasso's")
    ),
    "sam.momentum": since(
        "0.2.0", number(0.9, "[0, 1)", "of msam; best that of the optimiser")
    ),
    "sam.gamma": since(
        "0.2.0", number(0.9, "[0, 1)", "weight of sharpness in wsam; 1/2 is SAM")
    ),
    "sam.trace_weight": since(
        "0.2.0", number(0.1, "[0, inf)", "weight of cr_sam's second difference")
    ),
    "sam.slope_weight": since(
        "0.2.0", number(0.1, "[0, inf)", "weight of cr_sam's first difference")
    ),
    "sam.fisher_weight": since(
        "0.2.0", number(1.0, "[0, inf)", "weight of g^2 in fisher_sam's metric")
    ),
    "sam.quantile": since(
        "0.2.0", number(0.95, "[0, 1)", "part of the gradient that zsharp leaves out")
    ),
    "sam.budget": since(
        "0.2.0", number(0.1, "[0, inf)", "rise of the loss that sets le_sam's radius")
    ),
    "sam.sparsity": since(
        "0.2.0", number(0.5, "[0, 1)", "part of the parameters sparse_sam leaves out")
    ),
    "sam.keep": since(
        "0.2.0", number(0.6, "(0, 1]", "part of the parameters that esam perturbs")
    ),
    "sam.select": since(
        "0.2.0", number(0.5, "(0, 1]", "part of the examples that esam descends on")
    ),
    "sam.tail": since("0.2.0", several((), int, "the rare classes of imb_sam")),
    "sam.counts": since(
        "0.2.0", several((), int, "training examples of each class, for focal_sam")
    ),
    "sam.focus": since(
        "0.2.0", number(1.0, "[0, inf)", "exponent of focal_sam's weights of classes")
    ),
    "sam.strength": since(
        "0.2.0",
        number(
            0.0,
            "[0, inf)",
            "weight of what focal_sam or eigen_sam adds; 0 for the variant's own",
            unset=0.0,
        ),
    ),
    "sam.threshold": since(
        "0.2.0",
        number(0.0, "(-inf, inf)", "deviations above the mean at which ae_sam ascends"),
    ),
    "sam.back_steps": since("0.2.0", whole(2, 1, "ascent steps of lookbehind_sam")),
    "sam.interpolation": since(
        "0.2.0", number(0.5, "(0, 1]", "part kept of lookbehind_sam's descents")
    ),
    "sam.refresh": since(
        "0.2.0", whole(10, 1, "steps between eigen_sam's power iterations")
    ),
    "sam.temperature": since(
        "0.2.0", number(5.0, "(0, inf)", "of the outputs that mesa compares")
    ),
    "sam.ascent_steps": whole(1, 1, "ascent steps before each descent step"),
    "sam.ascent_step_size": number(
        0.0, "[0, inf)", "length of one; 0 for rho", unset=0.0
    ),
    "sam.only_norm": switch(False, "perturb the normalisation layers alone"),
    "sam.only_kernels": since(
        "0.2.0", switch(False, "perturb leaves of two axes or more alone, as AWP does")
    ),
    "sam.start_epoch": run(whole(0, 0, "first epoch with ascent; plain steps before")),
    "sam.stop_epoch": run(whole(0, 0, "first epoch without ascent again; 0 for never")),
    "sam.every": run(whole(1, 1, "ascent in one step of so many, plain steps between")),
    "attack.kind": choice(
        "none", ("none", "adversarial", "trades"), "what a step does to its images"
    ),
    "attack.norm": choice("linf", tuple(NORMS), "norm of the ball"),
    "attack.eps": number(0.0, "[0, inf)", "radius of the ball, for images in [0, 1]"),
    "attack.steps": whole(5, 1, "PGD steps on a batch before its training step"),
    "attack.step_size": number(0.0, "[0, inf)", "length of one; 0 for 2 eps / steps"),
    "attack.start": choice("random", tuple(STARTS), "in the ball, or at the image"),
    "attack.eval_steps": whole(
        0, 0, "PGD steps of an evaluation; 0 for no robust error"
    ),
    "attack.eval_step_size": number(0.0, "[0, inf)", "length of one; 0 for eps / 4"),
    "attack.beta": number(6.0, "[0, inf)", "weight of trades' divergence"),
    "pairing.weight": number(
        0.0, "[0, inf)", "lambda of the l2 pairing term; 0 for none"
    ),
    "pairing.start": number(
        0.5, "[0, 1]", "part of the training before the term starts"
    ),
    "ema.decay": number(
        0.0, "[0, 1)", "decay of the weights' moving average; 0 for none"
    ),
    "eval.every_epochs": run(whole(1, 1, "epochs between evaluations")),
    "eval.examples": run(
        since(
            "0.2.0",
            whole(
                0,
                0,
                "examples evaluated of each part, the same random ones; 0 for all",
            ),
        )
    ),
    "eval.batch_size": run(
        whole(1000, 1, "examples evaluated at once, over all devices")
    ),
    "checkpoint.every_epochs": run(whole(10, 1, "epochs between checkpoints")),
    "checkpoint.every_minutes": resume(
        since(
            "0.2.0",
            number(
                10.0,
                "[0, inf)",
                "minutes between checkpoints within an epoch; 0 for none",
            ),
        )
    ),
    "checkpoint.keep": run(whole(2, 1, "newest checkpoints kept")),
    "checkpoint.best": run(
        switch(True, "also keep the best epoch by validation error")
    ),
}


# The keys whose values are dictionaries, and not keys of keys.
MAPPINGS = frozenset(
    name for name, key in KEYS.items() if isinstance(key.default, dict)
)


def names(*changes: Change) -> frozenset[str]:
    """The keys whose other values ask for one of these."""
    return frozenset(name for name, key in KEYS.items() if key.change in changes)


# Options of losses, by the key that sets them: the loss, and its name for the option.
LOSS_OPTIONS: dict[str, tuple[str, str]] = {
    "loss.label_smoothing": ("cross_entropy", "smoothing"),
    "loss.q": ("generalized_cross_entropy", "q"),
}

# Options of SAM variants that a configuration can set, by the key that sets them.
VARIANT_OPTIONS: dict[str, str] = {
    f"sam.{option}": option
    for variant in VARIANTS.values()
    for option in variant.options
    if f"sam.{option}" in KEYS
}
