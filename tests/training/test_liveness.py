from sam_jax.training.liveness import ENDED, PATIENCE, Listener


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
