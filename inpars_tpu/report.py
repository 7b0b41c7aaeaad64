"""What a run gave, as one page: report.html, and report.md for pasting.

The files around it: `report_record` reads a folder, `report_one` and
`report_all` choose what is shown, `report_html` and `report_markdown` write it.
"""

import dataclasses
import math
from collections.abc import Mapping

from etils import epath

from inpars_tpu import (
  errors,
  files,
  manifest,
  page,
  published,
  report_all,
  report_html,
  report_markdown,
  report_one,
  report_record,
)

# What is made last, with and without test queries; the rest is in their hashes.
_LAST = ('filtered.jsonl', manifest.COMPLETE_NAME, 'metrics.json')

untrained = report_record.untrained


def main(args) -> None:
  """`inpars-tpu report`."""
  for path in write(args.work_dir, price=_parse_price(args.price)):
    print(path)


def write(
  work_dir: files.PathLike, *, price: float | None = None
) -> list[epath.Path]:
  """Writes report.html and report.md into a folder; returns their paths.

  Args:
    work_dir: one dataset's folder, also half done, or the folder above several;
      folders of one name two levels below are seeds of one dataset.
    price: of one device for one hour, in any currency; None: no cost is shown.

  Raises:
    InputError: neither the folder nor one below it holds a run; an output that
      is malformed.
  """
  work_dir = files.must_exist(work_dir, 'work_dir')
  folders = find_folders(work_dir)
  records = [report_record.read(folder) for folder in folders]
  if folders == [work_dir]:
    content = report_one.build(
      records[0], _published().get(records[0].name, {}), price
    )
  else:
    content = report_all.build(
      work_dir.resolve().name, records, _published(), price,
      links=_links(work_dir, folders),
    )  # fmt: skip
  return _write(work_dir, folders, content, price)


def is_current(folder: epath.Path) -> bool:
  """Whether a dataset's report is there and shows the outputs of now."""
  html_path = folder / 'report.html'
  record = manifest.read(html_path) if html_path.exists() else None
  return (
    record is not None
    and (folder / 'report.md').exists()
    and record['sha256'] == files.sha256(html_path)
    and {name: found['sha256'] for name, found in record['inputs'].items()}
    == {k: files.sha256(path) for k, path in _inputs(folder, [folder]).items()}
  )


def find_folders(work_dir: epath.Path) -> list[epath.Path]:
  """The folder itself if it holds a run, else those one or two levels below."""
  if report_record.is_run(work_dir):
    return [work_dir]
  below = _folders(work_dir)
  found = [folder for folder in below if report_record.is_run(folder)]
  found = found or [
    folder
    for parent in below
    for folder in _folders(parent)
    if report_record.is_run(folder)
  ]
  if not found:
    raise errors.InputError(
      f'{work_dir} holds no run, and no folder below it does: none of '
      'documents.jsonl, queries, filtered.jsonl and metrics.json is there'
    )
  return found


def result_rows(
  metrics: Mapping[str, Mapping[str, float]],
) -> list[tuple[str, float]]:
  """(name in words, nDCG@10) of each run."""
  return [
    (report_record.RUN_NAMES.get(name, name), values['nDCG@10'])
    for name, values in metrics.items()
  ]


def _write(
  work_dir: epath.Path,
  folders: list[epath.Path],
  content: page.Page,
  price: float | None,
) -> list[epath.Path]:
  """A report is made anew each time: it costs less than to know whether to."""
  html_path, markdown_path = work_dir / 'report.html', work_dir / 'report.md'
  manifest.manifest_path(html_path, is_directory=False).unlink(missing_ok=True)
  job = manifest.begin_file(
    'report', html_path, settings={'price': price},
    inputs=_inputs(work_dir, folders),
  )  # fmt: skip
  files.write_text(markdown_path, report_markdown.to_markdown(content))
  files.write_text(html_path, report_html.to_html(content))
  job.finish()
  return [html_path, markdown_path]


def _inputs(
  work_dir: epath.Path, folders: list[epath.Path]
) -> dict[str, epath.Path]:
  """Name below `work_dir` -> path, of those of `_LAST` that are there."""
  paths = [folder / name for folder in folders for name in _LAST]
  return {
    '/'.join(path.relative_to(work_dir).parts): path
    for path in paths
    if path.exists()
  }


def _folders(folder: epath.Path) -> list[epath.Path]:
  found = [entry for entry in folder.iterdir() if entry.is_dir()]
  return sorted(found, key=lambda entry: entry.name)


def _links(
  work_dir: epath.Path, folders: list[epath.Path]
) -> list[tuple[str, str]]:
  """Words and address of the datasets' own reports, where they are there."""
  found = []
  for folder in folders:
    words = '/'.join(folder.relative_to(work_dir).parts)
    if (folder / 'report.html').exists():
      found.append((words, f'{words}/report.html'))
  return found


def _published() -> dict[str, dict[str, float]]:
  """Dataset -> method -> nDCG@10, of those that are known."""
  return {
    name: {k: v for k, v in dataclasses.asdict(row).items() if v is not None}
    for name, row in published.NDCG_10.items()
  }


def _parse_price(text: str | None) -> float | None:
  if text is None:
    return None
  try:
    price = float(text)
  except ValueError:
    price = math.nan
  if not 0 <= price < math.inf:
    raise errors.InputError(
      f'--price={text}: what one device costs for an hour, as 3.22'
    )
  return price
