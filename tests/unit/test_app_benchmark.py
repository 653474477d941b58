"""The benchmarks of store and app run whole, on small runs, and give the figures that others rely on."""

import json
import sys

from benchmarks import app, store

SMALL = (400, 3)


def figures(capsys, monkeypatch, module) -> dict[str, float]:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--json"])
    module.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]


def test_store(capsys, monkeypatch):
    monkeypatch.setattr(store, "QUICK", {"": SMALL, "_1m": SMALL})
    found = figures(capsys, monkeypatch, store)
    assert set(found) == set(store.BARS)
    assert all(value > 0 for value in found.values())


def test_app(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KDAIF_CACHE", str(tmp_path))  # so that it is put back
    monkeypatch.setattr(app, "QUICK", {"": (4000, 6)})
    found = figures(capsys, monkeypatch, app)
    assert {"slowest_interaction_ms", "slowest_interaction_processor_ms", "largest_message_mb"} <= set(found)
    assert 0 < found["largest_message_mb"] < 5
