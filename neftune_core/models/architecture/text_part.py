"""The text part of a model that also processes images or sound.

Only the text part is trained, and a merged model contains only the text part. An adapter is saved under the names of
the published model, because the auto classes of transformers load that model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MARK = "_published_model"


@dataclass(frozen=True)
class PublishedModel:
    """The published model around a text part.

    Attributes:
        prefix: Qualified name of the text part's body in the published model.
        body: Qualified name of the body in the text part.
        architecture: Name of the published model's class.
        library: Python module of that class.
        causal: Whether `AutoModelForCausalLM` loads it.
    """

    prefix: str
    body: str
    architecture: str
    library: str
    causal: bool

    def renamed(self, name: str) -> str:
        """Return the name that the text part's module `name` has in the published model."""
        return self.prefix + name.removeprefix(self.body)


def text_part(whole: Any) -> Any:
    """Return the part of `whole` that generates text; `whole` itself if it has no other inputs.

    Args:
        whole: A transformers model. When the caller releases it, its image and sound towers are freed.
    """
    import torch
    from transformers import AutoModelForCausalLM

    known = AutoModelForCausalLM._model_mapping
    config = whole.config.get_text_config()
    if whole.config.is_encoder_decoder or config is whole.config or type(config) not in known:
        return whole
    with torch.device("meta"):
        text = AutoModelForCausalLM.from_config(config)
    body = text.base_model_prefix
    kind = type(getattr(text, body))
    found = next(((name, module) for name, module in whole.named_modules() if type(module) is kind), None)
    if type(whole) is type(text) or found is None:
        return whole
    setattr(text, body, found[1])
    text.set_output_embeddings(whole.get_output_embeddings())
    text.generation_config, text.name_or_path = whole.generation_config, whole.name_or_path
    config.tie_word_embeddings = text.get_output_embeddings().weight is text.get_input_embeddings().weight
    config.architectures = [type(text).__name__]
    about = type(whole)
    vars(text)[MARK] = PublishedModel(found[0], body, about.__name__, about.__module__, type(whole.config) in known)
    return text.eval()


def published_model(model: Any) -> PublishedModel | None:
    """Return the published model around `model`; None if `model` is not a part of one."""
    found: PublishedModel | None = vars(model).get(MARK)
    return found
