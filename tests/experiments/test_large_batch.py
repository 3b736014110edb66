"""A batch of 128 in one group against 256 in groups of 32."""

from experiments import large_batch, m_sharpness
from sam_jax.training import configuration, consistency


def test_the_sizes_are_those_of_the_paper():
    found = {m.key: m.config for m in large_batch.methods(large_batch.SCALES["paper"])}
    sizes = {
        key: (config.batch_size, consistency.group_size(configuration.check(config)))
        for key, config in found.items()
    }
    assert sizes == {"erm": (128, 128), "one_group": (128, 128), "groups": (256, 32)}


def test_the_single_group_and_erm_are_runs_of_m_sharpness():
    def prints(module, keys):
        planned = module.runs(module.SCALES["fashion"])
        return {
            configuration.fingerprint(configuration.check(run.config))
            for key, run in planned.items()
            if key[0] in keys
        }

    assert "m_sharpness" in large_batch.TAKES
    own = prints(large_batch, ("erm", "one_group"))
    assert len(own) == 10 * (1 + 5)  # seeds; ERM and the radii
    assert own <= prints(m_sharpness, ("none_erm", "none_0"))
