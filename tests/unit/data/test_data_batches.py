"""The order of an epoch, and the shape of a batch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from neftune_core.data.batches import LENGTH_STEP, collate, epoch_batches, round_up
from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message

MESSAGES = (Message("user", "a"), Message("assistant", "b"))


def row(length, prompt=1):
    trained = np.arange(length) >= prompt
    return EncodedExample(np.arange(1, length + 1, dtype=np.int32), trained, Example(MESSAGES, 1))


@given(st.lists(st.integers(1, 600), max_size=300), st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 99))
def test_an_epoch_holds_every_row_once(lengths, batch_size, seed, epoch):
    batches = epoch_batches(lengths, batch_size, seed, epoch)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == -(-len(lengths) // batch_size)


def test_the_order_depends_only_on_seed_and_epoch():
    lengths = list(range(1, 101))
    np.random.seed(1)
    first = epoch_batches(lengths, 4, 7, 0)
    np.random.seed(2)
    assert epoch_batches(lengths, 4, 7, 0) == first
    assert epoch_batches(lengths, 4, 7, 1) != first
    assert epoch_batches(lengths, 4, 8, 0) != first


def test_drawing_an_order_does_not_touch_the_global_generator():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    epoch_batches([1, 2, 3], 2, 0, 0)
    assert np.random.get_state()[1].tolist() == before


def test_rows_of_similar_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 500, 1000).tolist()

    def padding(batches):
        return sum(max(lengths[place] for place in batch) - lengths[place] for batch in batches for place in batch)

    order = np.random.default_rng(1).permutation(1000).reshape(-1, 4).tolist()
    assert padding(epoch_batches(lengths, 4, 0, 0)) < padding(order) / 5


def test_batches_do_not_come_sorted_by_length():
    lengths = list(range(1, 129))
    longest = [max(lengths[place] for place in batch) for batch in epoch_batches(lengths, 4, 0, 0)]
    assert longest != sorted(longest)


def test_rows_are_padded_on_the_right_and_padding_is_never_trained_on():
    batch = collate([row(3), row(5, prompt=2)], 99, 32)
    assert batch.ids.tolist() == [[1, 2, 3, 99, 99, 99, 99, 99], [1, 2, 3, 4, 5, 99, 99, 99]]
    assert batch.lengths.tolist() == [3, 5]
    assert batch.trained.sum(1).tolist() == [2, 3]
    assert not batch.trained[0, 3:].any()
    assert (batch.ids.dtype, batch.lengths.dtype, batch.trained.dtype) == (torch.int64, torch.int64, torch.bool)


def test_lengths_are_rounded_to_few_shapes():
    assert [round_up(length, LENGTH_STEP) for length in (1, 32, 33, 64, 65, 97)] == [8, 32, 40, 64, 96, 128]
    assert collate([row(33)], 0, LENGTH_STEP).ids.shape == (1, 40)


def test_rounding_stops_at_the_longest_sequence_a_model_reads():
    assert collate([row(33)], 0, LENGTH_STEP, longest=36).ids.shape == (1, 36)
    assert collate([row(33)], 0, LENGTH_STEP, longest=20).ids.shape == (1, 33)


def test_a_tokenizer_without_padding_is_padded_with_zero():
    assert collate([row(1), row(2)], None, 1).ids.tolist() == [[1, 0], [1, 2]]


def test_a_batch_moves_whole():
    moved = collate([row(2)], 0, 1).to("meta")
    assert {moved.ids.device.type, moved.lengths.device.type, moved.trained.device.type} == {"meta"}
