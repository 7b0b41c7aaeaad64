import shutil

import pytest

from inpars_tpu import errors, prompts


@pytest.mark.parametrize('name,end', [
  ('gbq', '\nGood Question:'), ('vanilla', '\nRelevant Query:')
])  # fmt: skip
def test_shipped_prompts_end_before_the_query(name, end):
  text = prompts.load(name).build('Of {braces} and tea.')
  assert text.endswith(f'\n\nExample 4:\nDocument: Of {{braces}} and tea.{end}')
  assert text.count('Document: ') == 4


@pytest.mark.shared_data
@pytest.mark.parametrize('name', ['paper_gbq', 'paper_vanilla', 'toolkit_gbq'])
def test_published_prompts(shared_data, tmp_path, name):
  shutil.copytree(shared_data / 'prompts', tmp_path / 'prompts')
  prompt = prompts.load(name, tmp_path)
  assert prompt.before.startswith("Example 1:\nDocument: We don't know a lot")
  assert prompt.before.endswith('\n\nExample 4:\nDocument: ')
  assert prompt.after in ('\nGood Question:', '\nRelevant Query:')


def test_paper_prompt_that_is_not_there_says_how_to_get_it(tmp_path):
  with pytest.raises(errors.InputError) as caught:
    prompts.load('paper_gbq', tmp_path)
  message = str(caught.value)
  assert f'is not at {tmp_path}/prompts/inpars_gbq.txt: ' in message
  assert f'download --prompts --data_dir={tmp_path} ' in message
  assert '--gin.PROMPT="\'gbq\'"' in message


def test_paper_prompt_that_was_changed_is_not_the_papers(tmp_path):
  path = tmp_path / 'prompts' / 'inpars_gbq.txt'
  path.parent.mkdir()
  path.write_text('Document: {document_text}\nGood Question:')
  with pytest.raises(errors.InputError, match='is not the published legacy'):
    prompts.load('paper_gbq', tmp_path)
  assert prompts.load(str(path)).after == '\nGood Question:'


def test_own_template(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text('Text: {document_text}\nAsk: {query}\n')
  assert prompts.load(str(path)).build('a') == 'Text: a\nAsk:'


@pytest.mark.parametrize('template', ['no place', '{document} {document_text}'])
def test_template_without_one_place(tmp_path, template):
  path = tmp_path / 'mine.txt'
  path.write_text(template)
  with pytest.raises(errors.InputError, match='must have exactly one'):
    prompts.load(str(path))


def test_unknown_name_names_the_nearest():
  with pytest.raises(errors.InputError, match='did you mean vanilla'):
    prompts.load('vanila')
