"""The commands of README.md, launch/ and docs/: they parse; stages run."""

import importlib
import pathlib
import re
import shlex
import shutil

import pytest

from inpars_tpu import cli, recipe
from launch import sweep, sweep_plan, tpu
from tests import tiny_models

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', ROOT / 'launch' / 'README.md']
PAGES += sorted(DOCS.glob('*.md'))
# In the order of the loop; what each reads of the recipe.
STAGES = {
  'sample': ('sample._MACROS',),
  'generate': ('generate._MACROS',),
  'filter': ('filter.MACROS', 'score.MACROS'),
  'index': (),
  'negatives': ('negatives._MACROS',),
  'train': ('train_recipe.MACROS',),
  'search': ('search._MACROS',),
  'rerank': ('rerank.MACROS',),
  'evaluate': (),
  'report': (),
}


def commands(page):
  """Each command of a page's indented blocks, as words."""
  text = page.read_text().replace('\\\n', ' ')
  found = re.findall(
    r'^ {4}(?:zcat .* \| )?((?:inpars-tpu |python -m launch\.).*)$', text, re.M
  )
  return [
    shlex.split(line, comments=True) for line in found if '...' not in line
  ]


@pytest.fixture
def clone(tmp_path, monkeypatch):
  """The current folder, with what a page tells its reader to make there."""
  for name in ('gin', 'launch'):
    (tmp_path / name).symlink_to(ROOT / name)
  (tmp_path / 'my.env').write_text((ROOT / 'launch/example.env').read_text())
  (tmp_path / 'my.gin').write_text("include 'gin/inpars_v2.gin'\n")
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_commands_parse(page, clone):
  for program, *words in commands(page):
    if program == 'inpars-tpu':
      if words[0] != 'VERB':
        cli.parse(words[0], words[1:])
    elif words[1] == 'launch.tpu':
      tpu.settings_of(tpu.parse(words[2:])[0])
    else:
      own, *setup = tpu.split_commands(words[2:])
      args, flags = sweep.make_parser().parse_known_args(own)
      assert sweep_plan.load(args.sweep, args.work_dir, flags)
      for command in setup:
        tpu.check_command(command)


def test_there_are_commands_to_check():
  counts = {page.name: len(commands(page)) for page in PAGES[2:]}
  assert counts['cloud_tpu.md'] == 14
  assert counts['sweeps.md'] == 2
  assert all(counts[f'{stage}.md'] == 1 for stage in STAGES)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
    if '://' not in target:
      assert (page.parent / target).exists(), target


def test_every_page_is_linked():
  text = (DOCS / 'README.md').read_text()
  missing = [p.name for p in DOCS.glob('*.md') if f'({p.name})' not in text]
  assert missing == ['README.md']
  assert '(docs/README.md)' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize('stage', STAGES)
def test_page_of_a_stage_names_its_macros(stage):
  text = (DOCS / f'{stage}.md').read_text()
  table = re.findall(r'^\| (`.*?) \|', text, re.M)
  named = {n for cell in table for n in re.findall(r'`([A-Z0-9_]+)`', cell)}
  wanted = set()
  for source in STAGES[stage]:
    module, name = source.split('.')
    wanted |= set(
      getattr(importlib.import_module(f'inpars_tpu.{module}'), name)
    )
  assert wanted - named == set()
  assert named - set(recipe.MACROS) == set()


def test_sweep_of_the_page(tmp_path):
  text = (DOCS / 'sweeps.md').read_text()
  block = re.search(
    r'((?:^    .*\n)*^    datasets:(?:.*\n    )*.*$)', text, re.M
  )
  path = tmp_path / 'x.yaml'
  path.write_text(re.sub(r'^    ', '', block[1], flags=re.M))
  runs = sweep_plan.load(str(path), 'w', ['--generator=g', '--reranker=r'])
  assert len(runs) == 2 * 3 * 2 * 2
  assert runs[0].name == 'rankt5+LEARNING_RATE=0.001/seed1/scifact'


def test_stages_run_as_their_pages_say(clone, capsys):
  tiny_models.write(clone / 'made', num_things=40)
  for name, place in (('data', 'demo/data'),
                      ('models', 'inpars_tpu/demo/checkpoints')):  # fmt: skip
    (clone / place).parent.mkdir(parents=True)
    shutil.move(clone / 'made' / name, clone / place)
  for stage in STAGES:
    ((_, *words),) = commands(DOCS / f'{stage}.md')
    assert words[0] == stage
    assert cli.main(words) == cli.DONE, (stage, capsys.readouterr().err)
  for output in ('reranked.trec', 'metrics.json', 'report.html', 'model'):
    assert (clone / 'mine' / output).exists()
