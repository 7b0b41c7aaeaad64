import numpy as np
import pytest

from inpars_tpu import batches


def make_examples(lengths, labels, groups=None) -> batches.Examples:
  """Example i is `length` tokens of i + 1."""
  return batches.Examples.collect(
    batches.Example(
      inputs=np.full(length, i + 1, np.int32),
      targets=np.array([10 + label, 1], np.int32),
      label=label,
      group=groups[i] if groups else i // 2,
    )
    for i, (length, label) in enumerate(zip(lengths, labels, strict=True))
  )


def test_collect():
  examples = make_examples([2, 3], [1, 0])
  assert len(examples) == 2
  assert examples.num_positives == 1
  np.testing.assert_array_equal(examples.tokens, [1, 1, 2, 2, 2])
  np.testing.assert_array_equal(examples.lengths, [2, 3])
  np.testing.assert_array_equal(examples.inputs(0), [1, 1])
  np.testing.assert_array_equal(examples.inputs(1), [2, 2, 2])
  np.testing.assert_array_equal(examples.targets, [[11, 1], [10, 1]])
  np.testing.assert_array_equal(examples.groups, [0, 0])


def test_collect_nothing():
  assert len(batches.Examples.collect([])) == 0


def test_draw_is_half_and_half_and_goes_through_all():
  examples = make_examples([1] * 10, [1, 0, 0, 0, 1] * 2)  # 4 and 6.
  drawn = [
    batches.draw(examples, seed=1, step=step, batch_size=4)
    for step in (1, 2, 3)
  ]
  positives = np.concatenate([chosen[:2] for chosen in drawn])
  negatives = np.concatenate([chosen[2:] for chosen in drawn])
  assert sorted(positives[:4]) == [0, 4, 5, 9]  # One epoch, then the next.
  assert set(positives[4:]) <= {0, 4, 5, 9}
  assert sorted(negatives) == [1, 2, 3, 6, 7, 8]
  assert list(negatives) != sorted(negatives)


def test_draw_crosses_epochs_inside_a_batch():
  examples = make_examples([1] * 4, [1, 0, 1, 1])  # 3 positives, 1 negative.
  chosen = batches.draw(examples, seed=1, step=1, batch_size=8)
  assert sorted(chosen[:3]) == [0, 2, 3]
  assert list(chosen[4:]) == [1, 1, 1, 1]


def test_draw_depends_on_seed_and_step_alone():
  examples = make_examples([1] * 200, [1, 0] * 100)

  def draw(seed, step):
    return batches.draw(examples, seed=seed, step=step, batch_size=8)

  later = draw(1, 7)
  draw(1, 3)
  np.testing.assert_array_equal(draw(1, 7), later)
  assert not np.array_equal(draw(1, 8), later)
  assert not np.array_equal(draw(2, 7), later)


@pytest.mark.parametrize(
  ('max_tokens', 'lengths'),
  [
    (512, [64, 128, 192, 256, 384, 512]),
    (300, [64, 128, 192, 256, 300]),
    (16, [16]),
  ],
)
def test_bucket_lengths(max_tokens, lengths):
  assert batches.bucket_lengths(max_tokens) == lengths
  assert batches.bucket_lengths(max_tokens, is_grouped=False) == [max_tokens]


def test_fine_bucket_lengths():
  lengths = batches.bucket_lengths(400, is_fine=True)
  assert lengths == [32, 64, 96, 128, 160, 192, 224, 256, 320, 384, 400]


def test_fine_split_halves_a_microbatch_to_spare_padding():
  examples = make_examples([512, 250, 240, 20, 10, 5], [1, 0] * 3)

  def shapes(**options):
    return [
      microbatch.inputs.shape
      for microbatch in batches.split(
        examples,
        np.arange(6),
        lengths=[32, 256, 512],
        microbatch_tokens=1_024,
        **options,
      )
    ]

  assert shapes() == [(2, 512), (4, 256)]
  assert shapes(is_fine=True) == [(1, 512), (2, 256), (3, 32)]
  # Two devices have a row each at least.
  assert shapes(is_fine=True, num_parts=2) == [(2, 512), (2, 256), (4, 32)]


def test_fine_split_computes_the_fewest_tokens():
  """Against all ways to cut a batch, by brute force."""
  random = np.random.RandomState(0)
  lengths = [16, 32, 48, 64]
  for _ in range(20):
    drawn = random.randint(1, 65, 7)
    examples = make_examples(drawn.tolist(), [1, 0, 1, 0, 1, 0, 1])
    found = batches.split(
      examples,
      np.arange(7),
      lengths=lengths,
      microbatch_tokens=128,
      is_fine=True,
    )
    padded = sorted(min(n for n in lengths if n >= m) for m in drawn)[::-1]

    def fewest(start, padded=tuple(padded)):
      if start >= len(padded):
        return 0
      full = min(128 // padded[start], 7)
      return min(
        size * padded[start] + 60 + fewest(start + size)
        for size in (full, -(-full // 2))
      )

    cost = sum(part.inputs.size + 60 for part in found)
    assert cost == fewest(0)


def test_split_by_length():
  examples = make_examples([3, 8, 4, 1, 2], [1, 0, 1, 0, 1])
  first, second = batches.split(
    examples,
    np.array([0, 1, 2, 3, 4]),
    lengths=[4, 8],
    microbatch_tokens=16,
  )
  # The longest, with the next longest beside it.
  np.testing.assert_array_equal(
    first.inputs, [[2] * 8, [3, 3, 3, 3, 0, 0, 0, 0]]
  )
  np.testing.assert_array_equal(first.labels, [0, 1])
  # 16 / 4 rows, the last of them filler.
  np.testing.assert_array_equal(
    second.inputs,
    [[1, 1, 1, 0], [5, 5, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]],
  )
  np.testing.assert_array_equal(
    second.targets, [[11, 1], [11, 1], [10, 1], [0, 0]]
  )


def test_split_of_rows_longer_than_the_budget():
  examples = make_examples([8, 7], [1, 0])
  parts = list(
    batches.split(examples, np.array([1, 0]), lengths=[8], microbatch_tokens=4)
  )
  assert [part.inputs.shape for part in parts] == [(1, 8), (1, 8)]
  assert parts[0].inputs[0, 0] == 1  # Example 0, the longer.


def test_lists_have_their_positive_first():
  examples = make_examples(
    [1] * 7, [0, 1, 0, 0, 1, 0, 1], groups=[7, 7, 3, 7, 3, 7, 9]
  )
  np.testing.assert_array_equal(
    examples.lists, [[4, 2, -1, -1], [1, 0, 3, 5], [6, -1, -1, -1]]
  )


def test_draw_of_whole_lists():
  examples = make_examples([1] * 12, [1, 0, 0] * 4, [i // 3 for i in range(12)])

  def draw(step, seed=1):
    return batches.draw(
      examples, seed=seed, step=step, batch_size=6, list_size=3
    )

  drawn = np.concatenate([draw(1), draw(2)])
  assert drawn.shape == (4, 3)
  np.testing.assert_array_equal(  # All four in one epoch.
    drawn[np.argsort(drawn[:, 0])], examples.lists
  )
  np.testing.assert_array_equal(draw(2), drawn[2:])
  assert any((draw(s, seed=2) != draw(s)).any() for s in range(1, 5))


def test_lists_of_a_small_corpus_are_filled_up():
  examples = make_examples([1] * 3, [1, 0, 1], groups=[0, 0, 1])
  drawn = batches.draw(examples, seed=1, step=1, batch_size=8, list_size=4)
  np.testing.assert_array_equal(
    drawn[np.argsort(drawn[:, 0])], [[0, 1, -1, -1], [2, -1, -1, -1]]
  )
  (part,) = batches.split(examples, drawn, lengths=[2], microbatch_tokens=16)
  np.testing.assert_array_equal(
    (part.inputs != 0).any(axis=1).reshape(2, 4).sum(axis=1),
    [2, 1] if drawn[0, 1] == 1 else [1, 2],
  )


def test_split_keeps_lists_together_and_groups_them_by_length():
  # Lists of 2 and 3; the longest example of each is 2, 8 and 3 tokens long.
  examples = make_examples(
    [2, 1, 3, 3, 8, 1, 2, 3],
    [1, 0, 1, 0, 0, 1, 0, 0],
    groups=[0, 0, 1, 1, 2, 2, 2, 1],
  )
  first, second = batches.split(
    examples, examples.lists, lengths=[4, 8], microbatch_tokens=24
  )
  # The longest document of a list says where the list goes.
  np.testing.assert_array_equal(
    first.inputs, [[6] + [0] * 7, [5] * 8, [7, 7] + [0] * 6]
  )
  np.testing.assert_array_equal(first.labels, [1, 0, 0])
  np.testing.assert_array_equal(
    second.inputs,
    [
      [3, 3, 3, 0], [4, 4, 4, 0], [8, 8, 8, 0],
      [1, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0],  # A list of two.
    ],
  )  # fmt: skip
  np.testing.assert_array_equal(second.targets[:, 0], [11, 10, 10, 11, 10, 0])


def test_by_length():
  examples = make_examples([1, 3, 2, 3], [1, 0, 1, 0])
  chosen = np.array([0, 3, 1, 2])
  np.testing.assert_array_equal(
    batches.by_length(examples, chosen), [3, 1, 2, 0]
  )
  np.testing.assert_array_equal(
    batches.by_length(examples, np.array([[2, 0], [0, 1]])), [[0, 1], [2, 0]]
  )


def test_split_into_parts_for_several_devices():
  examples = make_examples([4, 3, 2, 1, 1], [1, 0, 1, 0, 1])

  def shapes(num_parts, chosen, microbatch_tokens):
    return [
      part.inputs.shape
      for part in batches.split(
        examples,
        chosen,
        lengths=[4],
        microbatch_tokens=microbatch_tokens,
        num_parts=num_parts,
      )
    ]

  rows = np.arange(5)
  assert shapes(1, rows, 12) == [(3, 4), (3, 4)]
  assert shapes(2, rows, 12) == [(2, 4)] * 3
  assert shapes(4, rows, 1_000) == [(8, 4)]
  assert shapes(2, rows.reshape(5, 1)[:3], 8) == [(2, 4), (2, 4)]
  # Lists of two: whole ones for each of two devices.
  assert shapes(2, rows[:4].reshape(2, 2), 1) == [(4, 4)]
