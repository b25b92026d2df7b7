"""Small random CLIPs of each kind, with pictures, prompts and features for them: what the methods' tests train."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from wardround.platform.methods.method import ClipInputs, SharedInputs, Step, TrainingPart

SIZE, LENGTH, WORDS, START, END = 32, 14, 40, 38, 39
TEXT = {"context_length": LENGTH, "vocab_size": WORDS, "width": 12, "heads": 2, "layers": 2}
VIT = {"image_size": SIZE, "patch_size": 16, "width": 16, "layers": 2, "head_width": 8}
RESNET = {"image_size": SIZE, "width": 4, "layers": [1, 1, 1, 1], "head_width": 32}
TOWERS = {"vit": VIT, "resnet": RESNET}
# Words of the toy language are numbers; classes have one or two names' words and up to three prompts.
NAMES = [[7], [8, 9], [10]]
PROMPTS = [[[1, 2, 7], [3, 7, 4, 5]], [[1, 2, 8, 9]], [[1, 2, 10], [10, 6], [3, 3, 10, 11, 12]]]


def tiny_clip(tower: str = "vit", *, width: int = 32, seed: int = 0, text: dict[str, Any] | None = None) -> nn.Module:
    """An open_clip model of ``tower``, in float64, frozen; no tensor is a constant, statistics included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = open_clip.CLIP(embed_dim=width, vision_cfg=TOWERS[tower], text_cfg={**TEXT, **(text or {})})
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.ndim == 1 and tensor.is_floating_point():
                    tensor += 0.1 * torch.rand(tensor.shape)
                if name.endswith("bn3.weight"):  # zeros, which would switch a block off
                    tensor += 1
                if name == "token_embedding.weight":  # as large as learned ones would be told apart
                    tensor *= 20
    return model.double().eval().requires_grad_(False)


def tokens_of(sentences: list[list[int]]) -> Tensor:
    """[start] words [end] and zeros: (n, LENGTH)."""
    rows = torch.zeros((len(sentences), LENGTH), dtype=torch.int64)
    for row, words in zip(rows, sentences, strict=True):
        row[: len(words) + 2] = torch.tensor([START, *words, END])
    return rows


def normalise(pictures: Tensor) -> Tensor:
    """uint8 (n, H, W, 3) -> float32 (n, 3, H, W)."""
    return ((pictures.float() / 255 - 0.4) / 0.25).permute(0, 3, 1, 2)


def inputs_of(model: nn.Module) -> ClipInputs:
    """The toy classes in the toy language."""
    return ClipInputs(
        model=model,
        normalise=normalise,
        prompt_tokens=tokens_of([sentence for sentences in PROMPTS for sentence in sentences]),
        prompt_classes=torch.tensor([k for k, sentences in enumerate(PROMPTS) for _ in sentences]),
        name_tokens=tokens_of(NAMES),
    )


def shared_of(model: nn.Module) -> SharedInputs:
    """Shared inputs as a study makes them: class features and scale are the frozen model's."""
    inputs, anything = inputs_of(model), model.get_parameter("logit_scale")
    features = model.encode_text(inputs.prompt_tokens)  # type: ignore[operator]
    unit = features / features.norm(dim=1, keepdim=True)
    means = torch.stack([unit[inputs.prompt_classes == k].mean(dim=0) for k in range(len(NAMES))])
    text = means / means.norm(dim=1, keepdim=True)
    return SharedInputs(text, float(anything.exp()), torch.zeros((0, text.shape[1])).to(text), clip=inputs)


def pictures(count: int, *, size: int = SIZE, seed: int = 3) -> Tensor:
    """Noise, uint8 (count, size, size, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator).to(torch.uint8)


def step_of(inputs: Tensor, received: dict[str, Tensor] | None = None, **modules: nn.Module | None) -> Step:
    """A step on ``inputs`` whose labels run through the classes."""
    labels = torch.arange(len(inputs)) % len(NAMES)
    step = Step(TrainingPart(inputs, labels), torch.zeros(0, dtype=torch.int64), received or {})
    return replace(step, **modules)  # type: ignore[arg-type]


def shaken(module: nn.Module, *, by: float = 0.05, seed: int = 9) -> nn.Module:
    """The module itself, its trained parameters moved at random: away from special start values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(
                    by * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
                )
    return module


@dataclass(frozen=True)
class Before:
    """A copy of all tensors of a model, to see what a training step changed."""

    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> Before:
        return cls({name: tensor.clone() for name, tensor in model.state_dict().items()})

    def unlike(self, model: nn.Module) -> set[str]:
        """Names of the tensors that are no longer equal."""
        now = model.state_dict()
        assert now.keys() == self.tensors.keys()
        return {name for name, tensor in self.tensors.items() if not torch.equal(tensor, now[name])}


def train_once(method: Any, module: nn.Module, step: Step, shared: SharedInputs, *, lr: float = 1e-3) -> Tensor:
    """One step of Adam in train mode on the parameters that are trained, and its loss."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=lr)
    optimiser.zero_grad()
    module.train()
    loss: Tensor = method.loss(module, step, shared)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in trained)
    optimiser.step()
    return loss.detach()


def unit(row: Tensor) -> NDArray[np.float64]:
    """One feature as float64 of norm 1."""
    values = row.detach().numpy().astype(np.float64).ravel()
    return values / math.sqrt(float((values * values).sum()))


def slow_image_features(model: Any, batch: Tensor) -> NDArray[np.float64]:
    """Picture by picture: (n, D)."""
    rows = []
    for picture in batch.numpy():
        pixels = torch.from_numpy((picture.astype(np.float32) / 255 - np.float32(0.4)) / np.float32(0.25))
        rows.append(unit(model.encode_image(pixels.permute(2, 0, 1)[None].double())))
    return np.stack(rows)


def slow_logits(model: Any, batch: Tensor) -> NDArray[np.float64]:
    """Picture by picture and prompt by prompt, every feature the model's own: (n, K)."""
    text = []
    for sentences in PROMPTS:
        features = [unit(model.encode_text(tokens_of([sentence]))) for sentence in sentences]
        mean = np.stack(features).sum(axis=0) / len(features)
        text.append(mean / np.linalg.norm(mean))
    scale = math.exp(float(model.logit_scale.detach()))
    return scale * slow_image_features(model, batch) @ np.stack(text).T  # type: ignore[no-any-return]


def slow_cross_entropy(logits: NDArray[np.float64], labels: Tensor) -> float:
    """-log softmax of each row at its label, mean over rows."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(math.exp(value) for value in row)) - row[label]
    return total / len(logits)


def tiny_bert_clip() -> nn.Module:
    """A CLIP whose text tower is a BERT of the transformers library, as BiomedCLIP's is; float64, frozen."""
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VIT, text_cfg=TEXT)
        config = BertConfig(
            vocab_size=WORDS, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
        )
        model.text = HFTextEncoder(
            "bert", 32, config=config, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp"
        )
    return model.double().eval().requires_grad_(False)
