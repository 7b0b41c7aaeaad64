"""Few-shot prompts: which text the generator reads for a document.

`gbq` and `vanilla` ship with the package and were written for it. The
published ones hold other people's passages: they are read from
`data_dir/prompts`, where `inpars-tpu download --prompts` puts them.
"""

import dataclasses
import hashlib
import pathlib
import re

from inpars_tpu import errors, files

_SHIPPED = ('gbq', 'vanilla')
# Published files of github.com/zetaalphavector/InPars at commit 9865521.
_PUBLISHED = {
  'paper_gbq': 'inpars_gbq.txt',
  'paper_vanilla': 'inpars_vanilla.txt',
  'toolkit_gbq': 'inpars_templates.yaml',
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
  if name in _PUBLISHED:
    return _load_published(name, data_dir)
  if not pathlib.Path(name).is_file():
    raise errors.unknown('prompt', name, [*_SHIPPED, *_PUBLISHED])
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
  path = pathlib.Path(data_dir) / 'prompts' / _PUBLISHED[name]
  if not path.is_file():
    raise errors.InputError(
      f'prompt {name!r} is not at {path}: fetch it with inpars-tpu download '
      f'--prompts --data_dir={data_dir}, or use the one that ships: '
      '--gin.PROMPT="\'gbq\'"'
    )
  text = path.read_text(encoding='utf-8')
  if path.suffix == '.yaml':
    import yaml

    text = yaml.safe_load(text)[_TOOLKIT_KEY]['template']
  return parse(text, str(path))
