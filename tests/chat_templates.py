"""Small byte-level tokenizers with the chat templates of common families, for tests of the data layer."""

import copy
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox answers the question.\n\n### Response:\nThe answer is in the text.\n\n",
    "user\nassistant\nsystem\n### Instruction:\nWrite a short answer to the question, please.",
    "Hello there, how are you? I am fine. Thank you for the question.\n\n\n",
] * 4

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe useful.<|im_end|>\n{% endif %}"
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Thinking is off only if `enable_thinking` is false; earlier turns have no thinking block.
THINKING = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n"
    "{% if loop.last and turn['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for turn in messages %}"
    "{% if turn['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ 'model' if turn['role'] == 'assistant' else 'user' }}\n{{ turn['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
SILENT_SYSTEM = (
    "{% for turn in messages %}{% if turn['role'] != 'system' %}"
    "<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Only the end-of-sequence token marks the end of a turn.
INSTRUCT = (
    "{{ bos_token }}{% for turn in messages %}{% if turn['role'] == 'assistant' %} {{ turn['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ turn['content'] }} [/INST]{% endif %}{% endfor %}"
)

TEMPLATES = {
    "chatml": CHATML,
    "thinking": THINKING,
    "no system": NO_SYSTEM,
    "silent system": SILENT_SYSTEM,
    "instruct": INSTRUCT,
    "plain": None,
    "plain with beginning": None,
}


@cache
def tokenizer(name):
    """Return the tokenizer with the template `name` of `TEMPLATES` (cached)."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    if name in ("plain with beginning", "no system", "instruct"):
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="<|im_end|>" if name == "chatml" else "</s>",
        pad_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    made.chat_template = TEMPLATES[name]
    return made


def with_template(template, name="plain"):
    """Return the tokenizer `name` of `TEMPLATES` with a different chat template."""
    made = copy.deepcopy(tokenizer(name))
    made.chat_template = template
    return made
