import json
import random

import pytest

from inpars_tpu import cli

GIB = 2**30
TINY = ('--generator=gptj_tiny', '--reranker=t5_tiny')


def run(capsys, *flags: str) -> str:
  assert cli.main(['plan', *flags]) == 0
  return capsys.readouterr().out


def refuse(capsys, *flags: str) -> str:
  assert cli.main(['plan', *flags]) == cli.WRONG_INPUT
  return capsys.readouterr().err


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Two documents of 40 and 120 characters, a test query of 24."""
  folder = tmp_path_factory.mktemp('plan') / 'mine'
  (folder / 'qrels').mkdir(parents=True)
  (folder / 'corpus.jsonl').write_text(
    ''.join(
      json.dumps({'_id': name, 'title': '', 'text': 'word ' * n}) + '\n'
      for name, n in (('a', 8), ('b', 24))
    )
  )
  (folder / 'queries.jsonl').write_text(
    json.dumps({'_id': 'q', 'text': 'what are these words of?'}) + '\n'
  )
  (folder / 'qrels' / 'test.tsv').write_text(
    'query-id\tcorpus-id\tscore\nq\ta\t1\n'
  )
  return folder


def test_the_paper_on_a_v3_8(capsys):
  out = run(
    capsys, '--dataset=scifact', '--machine=v3-8', '--data_dir=nowhere',
    '--document_tokens=200', '--json',
  )  # fmt: skip
  record = json.loads(out)
  stages = record['stages']
  assert list(stages) == [
    'sample', 'generate', 'filter', 'index', 'negatives', 'train', 'search',
    'rerank before', 'rerank after', 'evaluate',
  ]  # fmt: skip
  # Documents of 50 to 350 tokens, cut to 256, and 10 more; 17 steps; 11.27
  # GFLOP a token.
  assert record['work']['own_tokens'] == pytest.approx(200, abs=5)
  by_hand = 5_183 * (200 + 17) * 11.27e9
  assert 1 < stages['generate']['flops'] / by_hand < 1.25
  # 300,000 pairs of 230 tokens: 581 GFLOP each. A part of 2,048 makes nine
  # batches for eight devices, each as long as its longest pair.
  rerank = stages['rerank after']
  assert record['work']['rerank_tokens'] == pytest.approx(230, abs=5)
  assert 1 < rerank['flops'] / (300_000 * 581e9) < 1.3
  # At 40% of 492 TFLOP/s.
  assert rerank['seconds'] == pytest.approx(rerank['flops'] / 196.8e12)
  assert rerank['mesh'] == 'data=8,model=1'
  # 2.85 G weights in bfloat16, and one layer's work.
  assert 5.3 < rerank['memory']['total'] / GIB < 6.5
  assert stages['generate']['mesh'] == 'data=2,model=4'
  assert stages['train']['mesh'].startswith(
    'data=8,model=1, parameters fully sharded, layers scanned'
  )
  assert all(s['memory']['total'] < 15.48 * GIB for s in stages.values()
             if s['memory'])  # fmt: skip
  assert record['seconds'] == pytest.approx(
    sum(stage['seconds'] for stage in stages.values())
  )
  assert record['cost'] == pytest.approx(record['seconds'] / 3_600 * 8.0)
  # Both models and Adafactor's checkpoints, in float32.
  assert record['disk']['models'] == pytest.approx(35.6e9, rel=0.01)


def test_what_does_not_fit_is_said_and_is_no_error(capsys):
  out = run(
    capsys, '--dataset=scifact', '--machine=v5litepod-1', '--data_dir=nowhere'
  )
  assert 'train does not fit: ' in out
  assert ' GiB more than a device has' in out


def test_counts_and_lengths_of_a_folder(capsys, folder):
  record = json.loads(
    run(
      capsys,
      f'--dataset={folder}',
      '--machine=cpu',
      *TINY,
      '--json',
      '--gin.PROMPT="gbq"',
      '--gin.NUM_PAIRS=2',
    )
  )
  work = record['work']
  assert (work['num_documents'], work['num_queries']) == (2, 1)
  # 40 and 120 characters are 10 and 30 tokens; the mean, and what is around.
  assert work['own_tokens'] == 20 + 10
  assert work['filter_tokens'] == 20 + 18 + 10
  assert work['rerank_tokens'] == 20 + 6 + 10
  assert record['seconds'] is None
  assert record['cost'] is None


def test_peak_and_price_of_the_user(capsys, folder):
  flags = (f'--dataset={folder}', '--machine=cpu', *TINY, '--json')
  record = json.loads(run(capsys, *flags, '--peak=1e9', '--price=3600',
                          '--utilisation=0.5'))  # fmt: skip
  filtered = record['stages']['filter']
  assert filtered['seconds'] == pytest.approx(filtered['flops'] / 5e8)
  assert record['cost'] == pytest.approx(record['seconds'])


def test_without_judgements_it_ends_with_training(capsys, folder, tmp_path):
  (tmp_path / 'corpus.jsonl').write_bytes(
    (folder / 'corpus.jsonl').read_bytes()
  )
  out = run(capsys, f'--dataset={tmp_path}', '--machine=cpu', *TINY)
  assert '\ntrain ' in out
  assert 'rerank' not in out.partition('Assumed')[0]
  assert 'how fast this machine is, is not known' in out


def test_all_datasets_on_one_page(capsys):
  out = run(capsys, '--dataset=all', '--machine=v4-32', *TINY)
  assert out.startswith(
    'gptj_tiny and t5_tiny, on v4-32: 4 hosts, 16 devices of 30.75 GiB'
  )
  assert out.count('\n') > 14
  assert 'hotpotqa' in out
  assert 'bioasq' not in out  # Not public.


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (('--dataset=scifact', '--machine=v3-9'), "'v3-9'; did you mean v3-8"),
    (('--dataset=scifacts', '--machine=v3-8'), 'did you mean scifact'),
    (('--dataset=scifact', '--machine=v3-8', '--generator=gptj-6b'),
     "unknown model 'gptj-6b'; did you mean gpt-j-6b"),
    (('--dataset=scifact', '--machine=v3-8', '--generator=t5_3b'),
     "is a 't5' model; the generator needs gptj"),
    (('--dataset=scifact', '--machine=v3-8', '--utilisation=40'),
     '--utilisation=40: a number above 0, at most 1'),
    (('--dataset=scifact', '--machine=h100-1', '--compile'),
     '--compile is for TPUs; h100-1 is none'),
    (('--dataset=scifact',), 'plan needs --machine'),
  ],
)  # fmt: skip
def test_wrong_input(capsys, flags, message):
  assert message in refuse(capsys, *flags)


def test_a_large_corpus_is_sampled(capsys, tmp_path):
  lengths = random.Random(0)
  lines = [
    json.dumps(
      {'_id': str(i), 'title': 't', 'text': 'x' * (40 * lengths.randrange(7))}
    )
    for i in range(3_000)
  ]
  (tmp_path / 'corpus.jsonl').write_text('\n'.join(lines) + '\n')
  flags = (f'--dataset={tmp_path}', '--machine=cpu', *TINY)
  work = json.loads(run(capsys, *flags, '--json'))['work']
  assert work['num_documents'] == pytest.approx(3_000, rel=0.05)
  # 2 to 242 characters are 1 to 61 tokens, 31 in the mean; 28 around them.
  assert work['filter_tokens'] == pytest.approx(31 + 28, rel=0.05)
  assert any('by the size of the file' in line for line in work['assumptions'])
