import time
from types import SimpleNamespace
import pytest
from wardround.platform import simulation
from wardround.platform.simulation import simulate
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

def test_probe(tmp_path, toy_study, toy_data, BACKBONE, monkeypatch):
    data = toy_data(sites=3)
    backbone = SimpleNamespace(name="toy", weights="none", fingerprint=BACKBONE, embed_dim=16)
    monkeypatch.setattr(simulation, "load_backbone", lambda *a, **o: backbone)
    monkeypatch.setattr(simulation, "read_cohort", lambda *a: data.cohort)
    monkeypatch.setattr(simulation, "deal", lambda study, cohort: cohort)
    monkeypatch.setattr(simulation, "encode_study", lambda *a: (data, ()))
    monkeypatch.setattr(simulation, "_assess", lambda *a: {"federated": None, "zero_shot": None, "local_only": None})
    monkeypatch.setattr(simulation, "write_results", lambda run, results: run.summary.write_text("{}"))
    t = time.process_time(), time.time()
    simulate(toy_study(rounds=2), tmp_path / "run")
    print("TOOK", time.process_time() - t[0], time.time() - t[1])
    import shutil; shutil.rmtree("/tmp/aud/toy", ignore_errors=True); shutil.copytree(tmp_path / "run", "/tmp/aud/toy")
