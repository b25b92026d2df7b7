"""A study's tables of method options, one a method: each holds the options that this method has, and no others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Section

Lr = Annotated[float, Field(ge=0.0, le=1.0)]
Loss = Literal["class-prompt", "in-batch"]
LOSS_MEANING = "contrast with every class's prompt, or with the texts of the batch (the papers' code)"
LR_MEANING = "Adam step size of this method; 0: that of `[training]`"
TEXT_MEANING = "adapt the class prompts too, with an adapter of their own"


class FedClipSection(Section):
    """``[fedclip]``: options of FedCLIP (arXiv 2302.13485)."""

    lr: Lr = Field(default=0.0, description=LR_MEANING)
    loss: Loss = Field(default="class-prompt", description=LOSS_MEANING)
    text_adapter: bool = Field(default=False, description=TEXT_MEANING)


class _Adapting(Section):
    """What FACMIC and FAA-CLIP have in common: their adapter, and a reference set to adapt to."""

    lr: Lr = Field(default=0.0, description=LR_MEANING)
    loss: Loss = Field(default="class-prompt", description=LOSS_MEANING)
    text_adapter: bool = Field(default=False, description=TEXT_MEANING)
    depth: Literal[5, 8] = Field(default=5, description="modules of the adapter: 5 as published, 8 with one more block")
    normalisation: Literal["batch", "batch-local", "layer"] = Field(
        default="batch",
        description="BatchNorm that is shared, BatchNorm that stays at the site, or LayerNorm",
    )
    reference_through_adapter: bool = Field(
        default=True,
        description="reference features pass the adapter, without gradient (the paper), or bypass it (FACMIC's code)",
    )
    rescale_adaptation: bool = Field(
        default=True, description="scale the adaptation loss of batches under 32 images by their size / 32"
    )


class FacmicSection(_Adapting):
    """``[facmic]``: options of FACMIC (arXiv 2410.14707)."""

    adaptation_weight: float = Field(
        default=1.0, ge=0.0, le=100.0, description="weight of LMMD in the loss; 0 switches it off"
    )


class FaaClipSection(_Adapting):
    """``[faa_clip]``: options of FAA-CLIP (arXiv 2503.05776)."""

    adaptation_weight: float = Field(
        default=0.5, ge=0.0, le=100.0, description="weight of the adversarial loss; 0 switches it off"
    )
    domain_classifier: Literal["local", "shared"] = Field(
        default="local",
        description="it stays at the site (the paper), or is averaged like the adapter",
    )


class FedAvgSection(Section):
    """``[fedavg]``: the whole CLIP is trained and sent (McMahan et al. 2017, arXiv 1602.05629)."""

    lr: Lr = Field(default=1e-5, description=LR_MEANING)


class FedProxSection(Section):
    """``[fedprox]``: as FedAvg, held near the received model (Li et al. 2020, arXiv 1812.06127)."""

    lr: Lr = Field(default=1e-5, description=LR_MEANING)
    mu: float = Field(default=0.01, ge=0.0, le=1000.0, description="weight of the proximal term")


class MoonSection(Section):
    """``[moon]``: as FedAvg, with model-contrastive learning (Li et al. 2021, arXiv 2103.16049)."""

    lr: Lr = Field(default=1e-5, description=LR_MEANING)
    mu: float = Field(default=1.0, ge=0.0, le=1000.0, description="weight of the contrastive term")
    temperature: float = Field(default=0.5, gt=0.0, le=100.0, description="temperature of the contrastive term")


class PromptFlSection(Section):
    """``[prompt_fl]``: learned context vectors before each class name (Guo et al. 2023, arXiv 2208.11625)."""

    lr: Lr = Field(default=2e-3, description=LR_MEANING)
    context: int = Field(default=16, ge=1, le=64, description="number of context vectors, shared by all classes")
    init: Literal["random", "text"] = Field(
        default="random",
        description="start from noise, or from the words that the classes' first prompts begin with alike",
    )


class LoraSection(Section):
    """``[lora]``: low-rank factors on the image tower (Hu et al. 2021, arXiv 2106.09685)."""

    lr: Lr = Field(default=1e-3, description=LR_MEANING)
    rank: int = Field(default=4, ge=1, le=256, description="rank of each factor pair")
    alpha: float = Field(default=8.0, gt=0.0, le=1024.0, description="factors are scaled by alpha / rank")


class BaselineSection(Section):
    """``[baseline]``: what the methods `local-only` and `pooled` train."""

    method: Literal["fedclip", "facmic", "faa-clip"] = Field(
        default="facmic", description="adapter and options are this method's; adaptation is off"
    )


class ServerSection(Section):
    """``[server]``: what the coordinator makes of the mean update (Reddi et al. 2021, arXiv 2003.00295)."""

    optimiser: Literal["mean", "fedavgm", "fedadam"] = Field(
        default="mean", description="add the mean update, with server momentum, or with server Adam"
    )
    lr: float = Field(default=1.0, gt=0.0, le=100.0, description="server step size; 1 with `mean` is plain averaging")
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="server momentum; `fedavgm` and `fedadam`")
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0, description="server second-moment decay; `fedadam` only")
    tau: float = Field(default=1e-3, gt=0.0, le=1.0, description="server adaptivity; `fedadam` only")


class PersonalisationSection(Section):
    """``[personalisation]``: what a site does with the final adapter for itself; none of it leaves."""

    fine_tune_epochs: int = Field(
        default=0, ge=0, le=1000, description="epochs that each site trains on from the final adapter, for itself alone"
    )


class CalibrationSection(Section):
    """``[calibration]``: how probabilities are made honest."""

    method: Literal["after", "federated-head"] = Field(
        default="after",
        description="a temperature fitted after training; or one that is part of the adapter, fitted on each site's "
        "validation part every round and averaged with it",
    )
    steps: int = Field(default=5, ge=1, le=100, description="steps of each round's fit; `federated-head` only")
    site: Literal["temperature", "vector", "isotonic"] = Field(
        default="temperature",
        description="what each site fits on its validation part for its own answers and report; `predict --site` "
        "applies it",
    )
