import jax
import numpy as np
import pytest

from sam_jax.training import configuration, fleet, loop, partition, problem, sharded
from sam_jax.transforms import VARIANTS
from tests import compilation
from tests.training import device_processes, mesh_runs, mesh_steps
from tests.training.device_processes import finish
from tests.training.problems import tiny

pytestmark = pytest.mark.program


def start(devices, *arguments):
    """Runs tests/training/mesh_runs.py with so many CPU devices.

    Compiled fast even where other tests are not: hundreds of programs run once.
    """
    return device_processes.start(
        "tests.training.mesh_runs", devices, *arguments, XLA_FLAGS=compilation.QUICK
    )


def results(path):
    with np.load(path) as file:
        return dict(file)


def on_eight_devices(what, folder):
    """What a process with eight devices has made."""
    finish(start(8, folder / "out.npz", what, folder))
    return results(folder / "out.npz")


def of_two_processes(what, folder):
    """What each of two processes with two devices has made."""
    address, outs = (
        device_processes.free_address(),
        [folder / "0.npz", folder / "1.npz"],
    )
    finish(*(start(2, out, what, folder, address, i, 2) for i, out in enumerate(outs)))
    return [results(out) for out in outs]


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    return on_eight_devices("table", tmp_path_factory.mktemp("table"))


def close(received, expected, name):
    np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("shape", mesh_steps.TABLE_MESHES, ids=str)
@pytest.mark.parametrize("case", mesh_steps.TABLE, ids=str)
def test_a_mesh_changes_nothing(received, case, shape):
    close(received[f"{case} on {shape}"], received[f"{case}"], f"{case} {shape}")


def test_two_processes_of_two_devices_change_nothing(received, tmp_path):
    for both in of_two_processes("processes", tmp_path):
        assert len(both) == len(mesh_steps.TABLE) * len(mesh_steps.PROCESS_MESHES)
        for case in mesh_steps.TABLE:
            for shape in mesh_steps.PROCESS_MESHES:
                name = f"{case} on {shape}"
                close(both[name], received[f"{case}"], name)


def test_the_cases_differ(received):
    """But for SAM in groups, which sum_max has implicitly."""
    for i, (kind, *case) in enumerate(mesh_steps.TABLE):
        for j, (other, *same) in enumerate(mesh_steps.TABLE[:i]):
            one, two = (received[f"{mesh_steps.TABLE[k]}"] for k in (i, j))
            alike = one.shape == two.shape and np.allclose(one, two, rtol=1e-9)
            implicit = {kind, other} == {"sam", "sum_max"}
            assert alike == (case == same and implicit)


def test_a_kernel_lies_on_four_devices_in_parts(received):
    assert received["kernel shard"].tolist() == [4, 4]  # of [8, 8]


def test_a_step_gives_its_state_back_where_it_was(received):
    assert received["pinned"]
    assert received["programs"] == 1
    assert received["donated"]
    assert received["reused"] >= received["held"]


@pytest.mark.parametrize("here", ["pmap", "8", "2"])
@pytest.mark.parametrize("there", ["pmap", "8", "2"])
def test_a_state_is_restored_on_other_devices_to_the_bit(received, there, here):
    assert received[f"from {there} to {here}"]
    assert received[f"from {there} to {here}: sharded"]


def test_a_digest_does_not_depend_on_the_layout(received):
    one, other = received["digests"]
    assert one == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fsdp": 2}, "parallel.fsdp=2 with parallel.kind='pmap', which has no mesh"),
        ({"kind": "mesh"}, "parallel.kind='mesh'; it must be one of pmap, sharded"),
        (
            {"kind": "sharded", "fsdp": 3},
            r"data=0, parallel.fsdp=3, parallel.tensor=1 for \d devices; their product",
        ),
        ({"kind": "sharded", "data": 7}, r"parallel.data=7, .* for \d devices; their"),
        (
            {"kind": "sharded", "rules": ("kernel=fsdp,expert",)},
            "parallel.rules: Received the axis 'expert' in 'kernel=fsdp,expert'; give",
        ),
        (
            {"kind": "sharded", "rules": ("weight=fsdp,-",)},
            "weight=fsdp,- is the first to name none of the parameters params.head",
        ),
        (
            {"kind": "sharded", "rules": ("kernel=fsdp",)},
            r"kernel=fsdp has 1 dimensions for params.head.kernel of shape \(64, 10",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(tmp_path, changes, message):
    config = tiny()
    config.parallel.update(changes)
    with pytest.raises(ValueError, match=message) as error:
        loop.prepare(config, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def virtual(data, fsdp, tensor=1):
    """A mesh of one device in many places, enough for what is checked before."""
    shape = data, fsdp, tensor
    devices = np.resize(np.array(jax.devices()[:1]), shape)
    mesh = jax.sharding.Mesh(devices, ("data", "fsdp", "tensor"))
    rule = partition.Rule((fsdp, tensor), 4)
    return sharded.Layout(data * fsdp * tensor, tuple(jax.devices()[:1]), mesh, rule)


@pytest.mark.parametrize(
    ("m", "size", "mesh", "message"),
    [
        (0, 18, (2, 2), r"batch_size=18 for 4 devices; it must be a multiple"),
        (4, 24, (2, 4), r"Received m=4 for a batch of 24 examples on 8 devices"),
        (8, 24, (3, 2), None),
        (4, 24, (2, 3), None),
        (16, 48, (2, 3), r"Received m=16 for a batch of 48 examples on 2 devices"),
    ],
)
def test_groups_must_fit_the_mesh(m, size, mesh, message):
    config = configuration.check(
        tiny(sam__kind="sam", sam__m=m, batch_size=size, eval__batch_size=24)
    )
    layout = virtual(*mesh)
    if message is None:
        problem.check_batches(config, layout)
    else:
        with pytest.raises(ValueError, match=message):
            problem.check_batches(config, layout)


def test_runs_with_sharded_parameters_are_no_fleet(tmp_path):
    configs = [configuration.check(tiny(seed=i)) for i in range(2)]
    assert fleet.fits([(c, tmp_path / str(i)) for i, c in enumerate(configs)])
    kind = {"parallel__kind": "sharded"}
    configs = [configuration.check(tiny(seed=i, **kind)) for i in range(2)]
    assert not fleet.fits([(c, tmp_path / str(i)) for i, c in enumerate(configs)])


@pytest.mark.heavy
def test_no_mesh_changes_any_variant(tmp_path):
    found = on_eight_devices("variants", tmp_path)
    cases = mesh_steps.other_cases()
    assert len(cases) > len(VARIANTS)
    for case in cases:
        for shape in mesh_steps.KINDS_OF_MESHES:
            name = f"{case} on {shape}"
            close(found[name], found[f"{case}"], name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return on_eight_devices("runs", tmp_path_factory.mktemp("runs"))


@pytest.mark.heavy
def test_whole_runs_are_those_of_pmap(trained):
    for run in ("mlp sam", "mlp sum_max", "resnet sam", "gpt sam"):
        for mesh in mesh_runs.RUN_MESHES:
            name = f"{run} {mesh}"
            close(trained[name], trained[f"{run} pmap"], name)


@pytest.mark.heavy
def test_whole_runs_of_two_processes_are_those_of_one(trained, tmp_path):
    for both in of_two_processes("runs of processes", tmp_path):
        for run in ("mlp sam", "mlp sum_max"):
            for mesh in ("pmap", *mesh_runs.RUN_MESHES):
                name = f"{run} {mesh}"
                close(both[name], trained[f"{run} pmap"], name)
