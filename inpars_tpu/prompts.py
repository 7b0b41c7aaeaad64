"""Few-shot prompts: which text the generator reads for a document.

`gbq` and `vanilla` ship with the package and were written for it. The
published ones hold other people's passages: they are read from
`data_dir/prompts`, and only if they are what was published.
"""

import dataclasses
import hashlib
import pathlib
import re

from etils import epath

from inpars_tpu import errors, files

_SHIPPED = ('gbq', 'vanilla')
REPOSITORY = 'zetaalphavector/InPars'  # On GitHub.
COMMIT = '9865521663324f8fa63f759f071ca38bdeabb3f5'
# Our name of the file, its path there, its sha256.
PUBLISHED = {
  'paper_gbq': (
    'inpars_gbq.txt',
    'legacy/inpars-v1/prompts/gbq_prompt.txt',
    '7a96bc798bd39fb881bfaf9b0cee904acfe353909a43f1562857c4ccddb3b799',
  ),
  'paper_vanilla': (
    'inpars_vanilla.txt',
    'legacy/inpars-v1/prompts/vanilla_prompt.txt',
    '46b3f06c8d1ebd352c7af795fe6e163f5e5ca11e65cf5c8f1cdde9e7569922be',
  ),
  'toolkit_gbq': (
    'inpars_templates.yaml',
    'inpars/prompts/templates.yaml',
    '570cd2899a70383279ddf9347ed6159e809fd7290ebd3468890dd0914bb73923',
  ),
}
_TOOLKIT_KEY = 'inpars-gbq'
_PLACEHOLDER = re.compile(r'\{(?:document|document_text)\}')


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A template, cut at the place of the document."""

  before: str
  after: str

  def build(self, document: str) -> str:
    """The text that the generator goes on from.

    Prompt('Document: ', '\\nQuestion:').build('Tea.') ->
      'Document: Tea.\\nQuestion:'
    """
    return f'{self.before}{document}{self.after}'

  @property
  def sha256(self) -> str:
    """What the manifest knows the prompt by."""
    return hashlib.sha256(f'{self.before}\0{self.after}'.encode()).hexdigest()


def load(name: str, data_dir: files.PathLike = 'data') -> Prompt:
  """Loads a prompt by a known name or from a template file.

  Args:
    name: gbq, vanilla, paper_gbq, paper_vanilla, toolkit_gbq, or the path of
      a text file that holds {document} or {document_text} once.
    data_dir: where published prompts were downloaded to.

  Raises:
    InputError: an unknown name, a published prompt that is not there, a
      template without its placeholder.
  """
  if name in _SHIPPED:
    path = pathlib.Path(__file__).parent / 'prompt_files' / f'{name}.txt'
    return parse(path.read_text(encoding='utf-8'), name)
  if name in PUBLISHED:
    return _load_published(name, data_dir)
  if not pathlib.Path(name).is_file():
    raise errors.unknown('prompt', name, [*_SHIPPED, *PUBLISHED])
  try:
    return parse(pathlib.Path(name).read_text(encoding='utf-8'), name)
  except UnicodeDecodeError as error:
    raise errors.InputError(f'{name}: not UTF-8: {error}') from None


def parse(template: str, name: str) -> Prompt:
  """Cuts a template at its document.

  Blanks at the end go, as in the toolkit: the model's first token brings the
  blank before its word. So does the toolkit's {query}, which stands there.
  """
  template = template.replace('{query}', '').rstrip()
  places = _PLACEHOLDER.findall(template)
  if len(places) != 1:
    raise errors.InputError(
      f'prompt {name} has {len(places)} of {{document}} or {{document_text}}; '
      'it must have exactly one'
    )
  before, after = _PLACEHOLDER.split(template)
  return Prompt(before, after)


def _load_published(name: str, data_dir: files.PathLike) -> Prompt:
  file_name, origin, sha256 = PUBLISHED[name]
  path = epath.Path(data_dir) / 'prompts' / file_name
  if not path.is_file():
    raise errors.InputError(
      f'prompt {name!r} is not at {path}: inpars-tpu download --prompts '
      f'--data_dir={data_dir} fetches it; or put {origin} of '
      f'github.com/{REPOSITORY} (commit {COMMIT[:7]}) there, or use the '
      'prompt that ships: --gin.PROMPT="\'gbq\'"'
    )
  if files.sha256(path) != sha256:
    raise errors.InputError(
      f'{path} is not the published {origin}; to use it as it is, give its '
      f'path: --gin.PROMPT="\'{path}\'"'
    )
  text = path.read_text(encoding='utf-8')
  if path.suffix == '.yaml':
    import yaml

    text = yaml.safe_load(text)[_TOOLKIT_KEY]['template']
  return parse(text, str(path))
