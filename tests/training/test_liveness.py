import threading

from sam_jax.training import liveness
from sam_jax.training.liveness import ENDED, FINISHED, PATIENCE, Listener


def test_a_process_that_counts_is_there_and_a_silent_one_is_not():
    listener = Listener(0, 0.0)
    for second in range(100):
        assert (
            listener.gone({0: "7", 1: str(second), 2: "3"}, float(second)) is (None)
            or second > PATIENCE
        )
    said = listener.gone({0: "7", 1: "100", 2: "3"}, 100.0)
    assert said == f"Process 2 has said nothing for {PATIENCE:.0f} s"


def test_a_process_that_says_it_has_ended_is_believed_at_once():
    listener = Listener(1, 0.0)
    assert listener.gone({0: "1", 1: f"{ENDED}2"}, 0.0) is None
    assert listener.gone({0: f"{ENDED}2", 1: "1"}, 1.0) == (
        "Process 0 has ended with status 2"
    )


def test_a_process_that_has_finished_may_be_silent():
    listener = Listener(0, 0.0)
    assert listener.gone({0: "1", 1: FINISHED, 2: "1"}, 0.0) is None
    said = listener.gone({0: "1", 1: FINISHED, 2: "1"}, PATIENCE + 1)
    assert said == f"Process 2 has said nothing for {PATIENCE:.0f} s"


class Store(dict):
    def key_value_set(self, key, value, allow_overwrite):
        self[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.items() if key.startswith(prefix)]


def test_a_process_ends_with_its_thread_out_of_the_store(monkeypatch):
    store, at_the_end = Store(), []
    monkeypatch.setattr(liveness.compat, "process_store", lambda: store)
    monkeypatch.setattr(liveness.atexit, "register", at_the_end.append)
    liveness.watch(3)
    (finish,) = at_the_end
    finish()
    assert store == {f"{liveness.PREFIX}3": FINISHED}
    assert "liveness" not in [thread.name for thread in threading.enumerate()]
