import json

import pytest

from experiments import main_job
from sam_jax.training import startup


@pytest.mark.program
def test_the_main_job_leaves_two_runs_one_picture_and_a_table(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(startup, "use_compilation_cache", lambda: None)
    main_job.main(["--smoke", "--out", str(tmp_path)])
    for name in ("erm", "sam"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        expected = {"test_error_last", "test_error_best", "seconds", "best_epoch"}
        assert expected <= set(summary)
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["sam"]["kind"] == name
        assert config["data"]["noise"]["fraction"] == 0.6
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    header, _, erm, sam, *_ = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "run"
    for column in ("test best", "test last", "noisy train last", "time"):
        assert column in header
    assert erm.split()[0] == "ERM"
    assert sam.split()[0] == "SAM"
