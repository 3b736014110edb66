import json

import ml_collections
import pytest

from sam_jax.training import configuration, loop, problem, recipes, setup
from sam_jax.training.keys import MAPPINGS
from sam_jax.transforms import VARIANTS
from tests.training.problems import tiny


def changed(name, value):
    config = recipes.base().to_dict()  # a ConfigDict would convert some values
    *parents, last = name.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


def test_the_base_config_holds_exactly_the_declared_keys():
    assert set(configuration.flatten(recipes.base())) == set(configuration.KEYS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "sam.rho",
            -0.1,
            r"Received sam\.rho=-0\.1; it must be a number in \[0, inf\)",
        ),
        ("sam.rho", float("nan"), r"sam\.rho=nan"),
        ("sam.rho", float("inf"), r"sam\.rho=inf"),
        ("sam.rho", "0.1", r"sam\.rho='0\.1'; it must be a number"),
        ("sam.rho", True, r"sam\.rho=True"),
        ("seed", 1.5, r"seed=1\.5; it must be an integer >= 0"),
        ("epochs", 0, r"epochs=0; it must be an integer >= 1"),
        ("seed", 2**32, r"seed=4294967296; it must be an integer >= 0 and <= 42949"),
        ("seed", True, r"seed=True"),
        ("data.noise.fraction", 1.1, r"must be a number in \[0, 1\]"),
        ("data.validation_fraction", 1.0, r"must be a number in \[0, 1\)"),
        ("schedule.peak", 0.0, r"must be a number in \(0, inf\)"),
        ("schedule.peak", 10**400, r"must be a number in \(0, inf\)"),
        ("sam.kind", "smart", "one of erm, sam, max_sum, sum_max, sam_direction"),
        ("data.augment.mirror", 1, "must be True or False"),
        ("model.name", 3, "must be a string"),
        ("data.classes", ("a", 1), "must be a tuple of strings"),
        ("data.noise.mapping", (-1, 0), "must be a tuple of integers >= 0"),
    ],
)
def test_an_impossible_value_is_refused_by_name(name, value, message):
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.check(changed(name, value))


def test_an_unknown_key_is_refused_with_the_nearest_known():
    config = recipes.base()
    config.sam.rh = 0.1
    with pytest.raises(
        configuration.ConfigError, match=r"'sam\.rh'; did you mean 'sam\.rho'"
    ):
        configuration.check(config)


def test_a_missing_key_is_named():
    config = recipes.base()
    del config.sam.rho
    with pytest.raises(configuration.ConfigError, match=r"lacks the key 'sam\.rho'"):
        configuration.check(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sam__kind": "sam", "sam__m": 5},
            r"sam\.m, batch_size: Received m=5 for a batch of 32",
        ),
        ({"sam__kind": "max_sum", "sam__m": 8}, r"sam\.kind='max_sum'"),
        ({"sam__kind": "saf"}, r"sam\.kind='saf'; a run keeps no outputs .*'mesa'"),
        ({"sam__kind": "imb_sam"}, r"sam\.kind='imb_sam'; .* such as sam\.tail="),
        ({"sam__kind": "focal_sam"}, r"'focal_sam'; give .* such as sam\.counts="),
        ({"sam__start_epoch": 1, "sam__stop_epoch": 1}, "stop later than you start"),
        ({"schedule__warmup_epochs": 2.0}, "warm-up must be shorter"),
        (
            {"sam__kind": "sam", "sam__start_epoch": 2},
            r"sam\.start_epoch=2 for epochs=2; no step would ascend",
        ),
        (
            {"sam__kind": "sam", "sam__alpha": 0.7},
            r"sam\.alpha=0\.7 with sam\.kind='sam'.* that have it: gsam",
        ),
        ({"loss__q": 0.5}, r"loss\.q=0\.5 with loss\.name='cross_entropy', which has"),
        (
            {"sam__kind": "sam", "sam__only_norm": True, "sam__only_kernels": True},
            r"only_norm=True with sam\.only_kernels=True; no leaf is both",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.check(tiny(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2048, "eval__batch_size": 2048}, "batch_size=2048 for 1293"),
        ({"devices": 2}, "Received devices=2"),
        ({"epochs": 10**7}, r"epochs=10000000 of 40 steps each, .* epochs=1677721 or"),
        ({"model__name": "resnet5"}, "Unknown model 'resnet5'; known: linear"),
        ({"loss__name": "mse"}, "Unknown loss 'mse'"),
        ({"data__name": "digit"}, "Unknown data set 'digit'"),
        ({"schedule__name": "step"}, "Unknown schedule 'step'"),
        ({"data__noise__kind": "asymmetric"}, "asymmetric label noise needs a class"),
        ({"init_from": "nowhere"}, "init_from='nowhere'"),
        (
            {"sam__kind": "sam", "sam__only_norm": True},
            r"sam\.only_norm=True with model\.name='linear', which has no norm",
        ),
        (
            {"model__name": "preact_resnet18", "sam__kind": "sam", "sam__m": 1},
            "'group'",
        ),
    ],
)
def test_what_the_parts_refuse_is_refused_before_training(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.train(loop.prepare(tiny(**changes), tmp_path / "run"), silent=True)


def test_a_checked_config_is_locked_and_in_declared_types():
    checked = configuration.check(changed("sam.rho", 1))
    assert isinstance(checked.sam.rho, float)
    with pytest.raises(AttributeError):
        checked.sam.rho = 2.0
    with pytest.raises(AttributeError):
        checked.sam.unknown = 2.0


def test_json_and_back_is_the_same_config():
    plain = configuration.plain(configuration.check(tiny(data__classes=("0", "1"))))
    again = configuration.check(json.loads(json.dumps(plain)))
    assert configuration.differences(plain, configuration.plain(again)) == []


def test_differences_are_listed_by_key():
    old, new = recipes.base(), recipes.base()
    new.sam.rho = 0.2
    assert configuration.differences(old, new) == ["sam.rho: 0.1 -> 0.2"]


class Recorder:
    """Passes a config's attributes on and notes which were read."""

    def __init__(self, config, read, prefix=""):
        self._config, self._read, self._prefix = config, read, prefix

    def __getattr__(self, name):
        value = getattr(self._config, name)
        path = self._prefix + name
        is_part = isinstance(value, ml_collections.FrozenConfigDict)
        if is_part and path not in MAPPINGS:
            return Recorder(value, self._read, path + ".")
        self._read.add(path)
        return value

    def items(self):
        return self._config.items()


def test_every_key_is_read(tmp_path, monkeypatch):
    read: set[str] = set()
    check = configuration.check
    monkeypatch.setattr(
        loop.configuration, "check", lambda config: Recorder(check(config), read)
    )
    monkeypatch.setattr(setup, "_shared", lambda config: config)  # reads go on
    changes = {"epochs": 1, "sam__kind": "gsam", "data__noise__fraction": 0.2}
    loop.run(tiny(**changes), tmp_path / "sgd", silent=True)
    other = {"optimizer__name": "adam", "model__name": "preact_resnet18"}
    loop.prepare(tiny(**other), tmp_path / "adam")
    needed = {"imb_sam": {"sam__tail": (1,)}, "focal_sam": {"sam__counts": (1,) * 10}}
    for kind in VARIANTS.keys() - {"saf"}:
        chosen = tiny(sam__kind=kind, **needed.get(kind, {}))
        problem.create_gradient(Recorder(check(chosen), read))
    for name in ("mlp", "conv_net"):
        loop.prepare(tiny(model__name=name), tmp_path / name)
    small = {"model__norm": "layer", "model__depth": 1, "model__width": 4}
    loop.prepare(tiny(model__name="vit", **small), tmp_path / "vit")
    (tmp_path / "text").write_bytes(b"words " * 500)
    text = {"data__name": "text", "data__path": str(tmp_path / "text")}
    text |= {"data__length": 8, "model__name": "gpt"}
    loop.prepare(tiny(**text, **small), tmp_path / "gpt")
    attack = {"attack__kind": "adversarial", "attack__eps": 0.1}
    loop.prepare(tiny(**attack, attack__eval_steps=1), tmp_path / "attack")
    gce = {"loss__name": "generalized_cross_entropy", "loss__q": 0.5}
    loop.prepare(tiny(**gce), tmp_path / "gce")
    loop.prepare(tiny(parallel__kind="sharded"), tmp_path / "sharded")
    assert set(configuration.KEYS) - read == set()
