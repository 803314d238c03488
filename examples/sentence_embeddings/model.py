"""MiniLM (BERT with 6 layers) in plain PyTorch, with the mean of the words as the sentence's vector."""

from torch import Tensor, nn
from torch.nn import functional

WORDS, POSITIONS, SIZE, HEADS, LAYERS = 30522, 512, 384, 12, 6
EPSILON = 1e-12


class MiniLM(nn.Module):
    """Ids (batch, length) and mask (batch, length; 0 where a row is filled up) in; unit vectors out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, SIZE)
        self.positions = nn.Embedding(POSITIONS, SIZE)
        self.kinds = nn.Embedding(2, SIZE)  # first or second text; there only is a first one here
        self.norm = nn.LayerNorm(SIZE, EPSILON)
        self.layers = nn.ModuleList([_layer() for _ in range(LAYERS)])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]] + self.kinds.weight[0])
        for layer in self.layers:
            x = _run(layer, x, mask[:, None, None, :].bool())
        weights = mask.unsqueeze(-1)
        return functional.normalize((x * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


def _layer() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "query": nn.Linear(SIZE, SIZE),
            "key": nn.Linear(SIZE, SIZE),
            "value": nn.Linear(SIZE, SIZE),
            "attended": nn.Linear(SIZE, SIZE),
            "attended_norm": nn.LayerNorm(SIZE, EPSILON),
            "expand": nn.Linear(SIZE, 4 * SIZE),
            "shrink": nn.Linear(4 * SIZE, SIZE),
            "shrink_norm": nn.LayerNorm(SIZE, EPSILON),
        }
    )


def _run(layer: nn.ModuleDict, x: Tensor, mask: Tensor) -> Tensor:
    query, key, value = (_by_head(layer[name](x)) for name in ("query", "key", "value"))
    seen = functional.scaled_dot_product_attention(query, key, value, mask)
    x = layer["attended_norm"](x + layer["attended"](seen.transpose(1, 2).flatten(2)))
    return layer["shrink_norm"](x + layer["shrink"](functional.gelu(layer["expand"](x))))


def _by_head(x: Tensor) -> Tensor:
    return x.unflatten(2, (HEADS, SIZE // HEADS)).transpose(1, 2)
