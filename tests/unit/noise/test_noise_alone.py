"""The noise alone needs torch, numpy and pydantic, and nothing else of the lab's dependencies."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
CODE = """
import torch
from neftune_core import NoiseSettings, noisy_embeddings

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)])
    def get_input_embeddings(self):
        return self.embedding
    def forward(self, input_ids, attention_mask=None):
        return self.head(self.layers[1](self.layers[0](self.embedding(input_ids))))

torch.manual_seed(0)
model, ids = Model().train(), torch.arange(6)[None]
clean = model(ids)
with noisy_embeddings(model, NoiseSettings(strength=5)):
    moved = (model(ids) - clean).abs().max().item()
assert moved > 0 and torch.equal(model(ids), clean), moved
print("ran")
"""


def _closure(names: list[str]) -> dict[str, Distribution]:
    """The distributions with everything that they require."""
    found: dict[str, Distribution] = {}
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name not in found:
            found[name] = distribution(name)
            wanted = map(Requirement, found[name].requires or [])
            names += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_noise_runs_where_only_torch_numpy_and_pydantic_are_installed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "neftune_core").symlink_to(ROOT / "neftune_core")
    for found in _closure(["torch", "numpy", "pydantic"]).values():
        tops = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
        for top in tops - {entry.name for entry in site.iterdir()}:  # packages of CUDA share one folder
            (site / top).symlink_to(Path(str(found.locate_file(top))))
    assert not (site / "tomlkit").exists() and not (site / "transformers").exists()
    code = f"import sys; sys.path.insert(0, {str(site)!r}){CODE}"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "ran\n", ran.stderr
