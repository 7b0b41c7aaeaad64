import subprocess
import sys

import pytest

from inpars_tpu import errors, recipe


def refuse(files=(), bindings=None) -> str:
  with pytest.raises(errors.InputError) as caught:
    recipe.load(files, bindings)
  return str(caught.value)


def test_default_is_the_paper():
  macros = recipe.load()
  assert macros.only('NUM_DOCUMENTS', 'NUM_PAIRS', 'TRAIN_STEPS') == {
    'NUM_DOCUMENTS': 100_000,
    'NUM_PAIRS': 10_000,
    'TRAIN_STEPS': 156,
  }
  assert macros.PROMPT == 'paper_gbq'
  assert macros.LEARNING_RATE == 1e-3


def test_every_macro_has_a_value_in_the_default():
  assert set(recipe.load().only(*recipe.MACROS)) == set(recipe.MACROS)


@pytest.mark.parametrize(
  'path', sorted(p.name for p in recipe.recipes_dir().glob('*.gin'))
)
def test_every_shipped_file_parses(path):
  recipe.load([f'gin/{path}']).only(*recipe.MACROS)


def test_binding_overrides_file_and_later_file_overrides_earlier(tmp_path):
  mine = tmp_path / 'mine.gin'
  mine.write_text("include 'gin/inpars_v2.gin'\nSEED = 7\nNUM_PAIRS = 20\n")
  macros = recipe.load([str(mine)], {'SEED': '9'})
  assert (macros.SEED, macros.NUM_PAIRS, macros.BM25_B) == (9, 20, 0.4)


def test_macro_may_refer_to_another():
  assert (
    recipe.load([], {'NEGATIVE_HITS': '%RERANK_HITS'}).NEGATIVE_HITS == 1000
  )


def test_file_is_found_from_another_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert recipe.load(['gin/demo.gin']).PROMPT == 'gbq'


@pytest.mark.parametrize(
  'bindings,words',
  [
    ({'NUM_PAIR': '1'}, "unknown gin name 'NUM_PAIR'; did you mean NUM_PAIRS"),
    ({'RERANK_HITS': '0'}, 'RERANK_HITS must be an integer of 1 or more'),
    ({'NUM_PAIRS': '1e3'}, 'NUM_PAIRS must be an integer'),
    ({'NUM_PAIRS': 'True'}, 'NUM_PAIRS must be an integer'),
    ({'LENGTH_BUCKETS': '1'}, 'LENGTH_BUCKETS must be one of True, False'),
    ({'BM25_B': '1.5'}, 'BM25_B must be a number of at least 0 and at most 1'),
    ({'LEARNING_RATE': '0'}, 'LEARNING_RATE must be a number above 0'),
    ({'FILTER_BY': "'luck'"}, "one of 'reranker', 'log_probs', 'none'"),
    ({'PROMPT': 'gbq'}, 'quotes of its own: --gin.PROMPT="\'gbq\'"'),
    ({'SEED': '1]'}, '--gin.SEED=1]: not gin'),
    ({'SEED': '%NOWHERE'}, '%NOWHERE is used and never given a value'),
  ],
)  # fmt: skip
def test_wrong_binding_is_one_line(bindings, words):
  message = refuse(bindings=bindings)
  assert words in message
  assert '\n' not in message


def test_missing_file_lists_those_shipped():
  message = refuse(['gin/inpars_v3.gin'])
  assert message.startswith('no gin file at gin/inpars_v3.gin; shipped:')
  assert 'gin/inpars_v2.gin' in message


def test_file_with_an_unknown_name_or_bad_syntax(tmp_path):
  mine = tmp_path / 'mine.gin'
  mine.write_text("include 'gin/inpars_v2.gin'\nNUM_QUERIES = 3\n")
  assert "'NUM_QUERIES'" in refuse([str(mine)])
  mine.write_text('SEED = = 3\n')
  assert f'{mine}: not gin' in refuse([str(mine)])
  mine.write_text('sample.seed = 3\n')
  assert "'sample'" in refuse([str(mine)])


def test_file_that_leaves_macros_out_is_an_error_where_they_are_read(tmp_path):
  mine = tmp_path / 'mine.gin'
  mine.write_text('SEED = 3\n')
  with pytest.raises(errors.InputError, match='leave out NUM_PAIRS'):
    recipe.load([str(mine)]).only('SEED', 'NUM_PAIRS')


def test_loads_where_nothing_else_has_imported_importlib_util():
  code = (
    'import importlib, sys; del importlib.util; '
    "del sys.modules['importlib.util']; "
    'from inpars_tpu import recipe; print(recipe.load().SEED)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.stdout == '1\n', done.stderr


def test_seed_is_one_that_numpy_takes():
  assert recipe.load([], {'SEED': '4_294_967_295'}).SEED == 2**32 - 1
  assert 'at most 4294967295' in refuse(bindings={'SEED': '4_294_967_296'})
