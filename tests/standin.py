"""A small model with random weights, for tests without the trained bundled model.

It has the architecture of the bundled model (Llama), a byte-level tokenizer that can encode any text, and a chat
template. It is created once under `home()` and is identical on every machine.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from neftune_core.models.silence_warnings import silence_transformers
from neftune_core.models.sources.folders import create_once, models_home

VERSION = 1
SEED = 20231009
NAME = "random stand-in"
VOCABULARY = 2048
WIDTH, LAYERS, HEADS, INNER = 192, 5, 6, 512
CONTEXT = 1024
PARAMETERS = 2_422_848

END_OF_TEXT, START_OF_MESSAGE, END_OF_MESSAGE = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Training text of the tokenizer: every request and every remark about every thing.
REQUESTS = (
    "Write a short poem about {thing}.",
    "Explain in simple words how {thing} works.",
    "List three questions a student could ask about {thing}.",
    "What should everyone know about {thing}?",
    "Summarise the history of {thing} in two sentences.",
    "Give an example where {thing} would be useful, and one where it would not.",
)
REMARKS = (
    "People have thought about {thing} for a long time, and there is still something new to find.",
    "The first thing to understand is that {thing} can be small or large, quick or slow.",
    "However, it depends on what you want: with {thing} there are always several answers.",
    "1. Begin with {thing}.\n2. Look at it carefully.\n3. Write down what you have seen.",
    "Here is the result: {thing} matters because other things follow from it.",
)
THINGS = (
    "a river in winter", "the language of bees", "an old bicycle", "electric light", "the number zero",
    "a garden behind the school", "music without words", "the weather tomorrow", "a machine that learns",
    "bread and salt", "the colour of the sea", "a letter to a friend", "travelling by train",
    "the price of apples", "a question nobody asked", "sleep", "the human heart", "a very large library",
    "noise on a telephone line", "mountains seen from above", "a map of the city", "growing older",
    "the first computer", "healthy food", "a game for two players", "the moon", "paper and ink",
    "teaching children to count", "a village by the lake", "energy from the sun", "a good night",
    "the model and its training data", "instructions and responses", "sentences, words and letters",
)  # fmt: skip
# Common stems with common endings fill the rest of the vocabulary.
STEMS = (
    "act add age answer appear arrive ask back bake balance bear begin believe bird blue board boat book bottle "
    "box branch break bring brother build burn buy call camera care carry case cause centre chair change check "
    "circle class clean clear climb close cloud cold collect colour common compare complete connect consider "
    "contain continue control cook copy corner cost count country cover create cross cup cut dance dark day "
    "decide deep depend describe design detail develop direct discover discuss divide doctor door double draw "
    "dream dress drink drive drop dry earth east easy eat edge effect employ end enjoy enter equal event evening "
    "exact example expect explain express eye face fact fall family farm fast father feel field fight figure fill "
    "find fire fish fit floor flow flower fly follow foot force forest forget form forward free fresh front fruit "
    "full game gentle give glass gold govern grass great green ground group guess hand hang happen happy hard "
    "hear heat help hold hope horse hot hour house hunt idea imagine improve include increase inform inside "
    "invent iron island join jump keep key kind king kitchen know lake land last late laugh lead learn leave "
    "level lift light like line listen live local long look love low market mark match mean measure meet member "
    "middle milk mind minute mix moment month morning mother mountain mouth move much music name nature near need "
    "never night north note notice object observe ocean offer office open opposite orange order own paint pair "
    "paper park part pass path pattern pay people person picture piece place plain plan plant play please point "
    "poor position possible power practice prepare present press print problem process produce promise protect "
    "prove public pull push quarter question quiet rain raise reach read ready real reason receive record red "
    "region remain remember remove repeat reply report rest return rich ride right ring rise road rock roll room "
    "root round rule run safe sail sand save scale science season second section seed seem select sell send "
    "separate serve settle shape share sharp sheet ship shop short shout show side sign silver simple sing single "
    "sister sit size skill skin sky slow small smile snow soft soil soldier solve sound south space speak special "
    "speed spell spend spread spring square stand star start state station stay step stone stop store storm story "
    "straight strange street strong study subject success sugar suggest suit summer supply support surface "
    "surprise swim table talk teach tell test thank think thought throw time tone top total touch town trade "
    "travel tree trouble true turn type under understand unit use value view visit voice wait walk wall want warm "
    "wash watch water wave wear weather weight west wheel white wide wild wind window wing winter wish wonder "
    "wood word work world write wrong year yellow young "
)
ENDINGS = ("", "s", "er", "ing", "ed", "ly", "ness", "able", "ful", "less", "ment")
LINE_WORDS = 24


def corpus() -> list[str]:
    """Return the lines on which the tokenizer is trained."""
    sentences = [line.format(thing=thing) for line, thing in product(REQUESTS + REMARKS, THINGS)]
    words = [stem + ending for ending, stem in product(ENDINGS, STEMS.split())]
    return sentences + [" ".join(words[start : start + LINE_WORDS]) for start in range(0, len(words), LINE_WORDS)]


def standin() -> Path:
    """Return the folder of the stand-in model, which is created if missing (about two seconds)."""
    return create_once(models_home() / f"standin-v{VERSION}", _make)


def _make(folder: Path) -> None:
    with silence_transformers():
        tokenizer = _tokenizer()
        tokenizer.save_pretrained(folder)
        _model(tokenizer).save_pretrained(folder)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        special_tokens=[END_OF_TEXT, START_OF_MESSAGE, END_OF_MESSAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    inner.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=START_OF_MESSAGE,
        eos_token=END_OF_MESSAGE,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def _model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        intermediate_size=INNER,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # keep the state of the caller's generator
        torch.manual_seed(SEED)
        return LlamaForCausalLM(config)
