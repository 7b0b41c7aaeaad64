"""Fetches a BEIR dataset, the published prompts or synthetic queries, a model.

Each into a place of its own below data_dir, whole or not at all, with what it
is and where it is from in a manifest. Models are in `hub`.
"""

import dataclasses
import logging
import pathlib
import shutil
import stat
import zipfile

import tqdm

from inpars_tpu import beir, errors, fetch, files, hub, manifest, prompts

_log = logging.getLogger(__name__)

# The 100,000 queries of each corpus that InPars v1 wrote and v2 filtered: the
# authors' files on the hub, as their README points to them.
_SYNTHETIC_HUB = (
  'https://huggingface.co/datasets/inpars/generated-data/resolve/'
  '36148f2112783e53f95e786b90a2a88800c83f2d'
)
_SYNTHETIC_S3 = 'https://zav-public.s3.amazonaws.com/inpars'
SYNTHETIC = {
  name: f'{_SYNTHETIC_HUB}/{name}/queries.jsonl' for name in beir.DATASETS
} | {
  'signal1m': f'{_SYNTHETIC_HUB}/signal/queries.jsonl',
  # Not there, or not in one file: as the README has them for v1.
  'bioasq': f'{_SYNTHETIC_S3}/bioasq_synthetic_queries_100k.jsonl',
  'cqadupstack': f'{_SYNTHETIC_S3}/cqadupstack_synthetic_queries_100k.jsonl',
}
_PROMPTS = (
  f'https://raw.githubusercontent.com/{prompts.REPOSITORY}/{prompts.COMMIT}'
)


def main(args) -> None:
  """`inpars-tpu download`."""
  given = [
    name
    for name in ('dataset', 'model', 'synthetic', 'prompts')
    if getattr(args, name)
  ]
  if len(given) != 1:
    raise errors.InputError(
      'download needs one of --dataset, --model, --synthetic and --prompts, '
      f'not {" and ".join(f"--{name}" for name in given) or "none"}'
    )
  if '://' in args.data_dir:
    raise errors.InputError(
      f'--data_dir={args.data_dir}: not a local folder; download to one, then '
      f'gcloud storage cp -r FOLDER/* {args.data_dir}'
    )
  for flag in ('zip', 'server'):
    if getattr(args, flag) and not args.dataset:
      raise errors.InputError(f'--{flag} goes with --dataset')
  data_dir = pathlib.Path(args.data_dir)
  if args.dataset:
    done = [
      dataset(
        args.dataset, data_dir, zip_path=args.zip,
        server=args.server or beir.SERVER,
      )
    ]  # fmt: skip
  elif args.model:
    done = [hub.download(args.model, data_dir / 'models')]
  elif args.synthetic:
    done = [synthetic(args.synthetic, data_dir)]
  else:
    done = published_prompts(data_dir)
  for path in done:
    print(path)


def dataset(
  name: str,
  data_dir: pathlib.Path,
  *,
  zip_path: files.PathLike | None = None,
  server: str = beir.SERVER,
) -> pathlib.Path:
  """Makes data_dir/NAME from BEIR's zip, or finds it complete.

  Args:
    name: of BEIR's.
    data_dir: a local folder; the zip is kept there until it is unpacked.
    zip_path: the zip, where it was fetched otherwise; it is left as it is.
    server: where NAME.zip is.

  Returns:
    The folder.

  Raises:
    InputError: an unknown name, one that is not public, a folder that is not
      ours, no network, no room, a zip that is not the published one or whose
      files differ in number from the table.
  """
  if name not in beir.DATASETS:
    raise errors.unknown('dataset', name, beir.DATASETS)
  about, folder = beir.DATASETS[name], data_dir / name
  if not about.is_public:
    raise errors.InputError(beir.how_to_get(about, data_dir))
  if folder.exists():
    if (folder / manifest.COMPLETE_NAME).exists():
      _log.info('download: %s is complete', folder)
      return folder
    raise errors.InputError(
      f'{folder} exists and was not made by download; move it away first'
    )
  if zip_path is not None:
    source = pathlib.Path(files.must_be_file(zip_path, 'zip'))
    if not fetch.has_checksum(source, f'md5:{about.md5}'):
      raise errors.InputError(
        f"{source} is not BEIR's {name}.zip, whose md5 is {about.md5}: it was "
        'cut off, or is another version'
      )
  else:
    source, url = data_dir / f'{name}.zip', f'{server.rstrip("/")}/{name}.zip'
    if not source.exists():
      _check_room(data_dir, about.zip_bytes, url)
      fetch.fetch(
        url, source, checksum=f'md5:{about.md5}',
        instead=f'fetch it elsewhere, and give --zip=FILE; or put '
        f'corpus.jsonl, queries.jsonl and qrels/test.tsv into {folder}',
      )  # fmt: skip
  _unpack(source, about, folder)
  if zip_path is None:
    source.unlink()
  return folder


def synthetic(name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """Makes data_dir/synthetic/NAME.jsonl: the authors' queries, for `filter`.

  No checksum is published: the manifest says which came.
  """
  if name not in SYNTHETIC:
    raise errors.unknown('dataset', name, SYNTHETIC)
  path = data_dir / 'synthetic' / f'{name}.jsonl'
  job = manifest.begin_file(
    'download', path, settings={'url': SYNTHETIC[name]}, inputs={}
  )
  if not job.is_complete:
    fetch.fetch(
      SYNTHETIC[name], path,
      instead='fetch it elsewhere, and give it to filter: --queries=FILE',
    )  # fmt: skip
    job.finish(counts={'out': _count_lines(path)})
  return path


def published_prompts(data_dir: pathlib.Path) -> list[pathlib.Path]:
  """Makes data_dir/prompts/: the published few-shot prompts, by sha256."""
  paths = []
  for file_name, origin, sha256 in prompts.PUBLISHED.values():
    path = data_dir / 'prompts' / file_name
    url = f'{_PROMPTS}/{origin}'
    if not (path.exists() and fetch.has_checksum(path, f'sha256:{sha256}')):
      fetch.fetch(
        url, path, checksum=f'sha256:{sha256}',
        instead=f'fetch it elsewhere and put it at {path}',
      )  # fmt: skip
    paths.append(path)
  return paths


def count(folder: pathlib.Path) -> beir.Counts:
  """Lines of the files of a dataset; blank ones and the header do not count."""
  qrels = folder / 'qrels' / 'test.tsv'
  judged = set()
  with qrels.open('rb') as stream:
    next(stream, None)
    judged.update(line.split(b'\t')[0] for line in stream if line.strip())
  return beir.Counts(
    _count_lines(folder / 'corpus.jsonl'),
    _count_lines(folder / 'queries.jsonl'),
    len(judged),
    _count_lines(qrels) - 1,
  )


def _count_lines(path: pathlib.Path) -> int:
  with path.open('rb') as stream:
    return sum(1 for line in stream if line.strip())


def _unpack(
  source: pathlib.Path, about: beir.Dataset, folder: pathlib.Path
) -> None:
  """Unpacks beside `folder`, counts, and only then gives it its name."""
  temporary = folder.parent / f'{folder.name}.tmp'
  shutil.rmtree(temporary, ignore_errors=True)  # Of a call that was killed.
  try:
    job = manifest.begin_directory(
      'download', temporary,
      settings={'dataset': about.name, 'md5': about.md5}, inputs={},
    )  # fmt: skip
    extract(source, about.name, temporary)
    counts = _check_counts(source, about, temporary)
    job.finish(counts=counts)
    temporary.rename(folder)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def extract(source: pathlib.Path, top: str, folder: pathlib.Path) -> None:
  """Unpacks what is below `top/` in a zip into `folder`.

  Raises:
    InputError: no zip, a broken one, one with a path that leads out of it or
      with a link, or too little room.
  """
  try:
    with zipfile.ZipFile(source) as archive:
      members = [m for m in archive.infolist() if not m.is_dir()]
      for member in members:
        _check_member(source, member)
      members = [m for m in members if m.filename.startswith(f'{top}/')]
      if not members:
        raise errors.InputError(f'{source} holds no {top}/')
      size = sum(member.file_size for member in members)
      _check_room(folder, size, f'what {source} holds')
      with tqdm.tqdm(
        desc=f'unpack {top}', total=size, unit='B', unit_scale=True,
        mininterval=1,
      ) as bar:  # fmt: skip
        for member in members:
          path = folder / member.filename.removeprefix(f'{top}/')
          path.parent.mkdir(parents=True, exist_ok=True)
          with archive.open(member) as stream, path.open('wb') as output:
            shutil.copyfileobj(stream, output, 1 << 20)
          bar.update(member.file_size)
  except (zipfile.BadZipFile, EOFError) as error:
    raise errors.InputError(f'{source} is not a whole zip: {error}') from None


def _check_member(source: pathlib.Path, member: zipfile.ZipInfo) -> None:
  path = pathlib.PurePosixPath(member.filename.replace('\\', '/'))
  is_link = stat.S_ISLNK(member.external_attr >> 16)
  if path.is_absolute() or '..' in path.parts or ':' in path.parts[0]:
    raise errors.InputError(
      f'{source} holds {member.filename!r}, which leads out of its folder: '
      'nothing is unpacked'
    )
  if is_link:
    raise errors.InputError(f'{source} holds a link: {member.filename!r}')


def _check_counts(
  source: pathlib.Path, about: beir.Dataset, folder: pathlib.Path
) -> dict[str, object]:
  """Compares with the table; returns the counts for the manifest."""
  parts = about.forums or {'': about.counts}
  found = {}
  for part, expected in parts.items():
    for name in ('corpus.jsonl', 'queries.jsonl', 'qrels/test.tsv'):
      if not (folder / part / name).is_file():
        raise errors.InputError(
          f'{source} holds no {part and part + "/"}{name}'
        )
    found[part] = count(folder / part)
    differences = [
      f'{getattr(found[part], field):,} {field.replace("_", " ")}, not '
      f'{value:,}'
      for field, value in vars(expected).items()
      if value is not None and getattr(found[part], field) != value
    ]
    if differences:
      raise errors.InputError(
        f'{source}: {part or about.name} has {"; ".join(differences)}: not the '
        'dataset that results are published on'
      )
  if about.forums:
    return {name: dataclasses.asdict(counts) for name, counts in found.items()}
  return dataclasses.asdict(found[''])


def _check_room(folder: pathlib.Path, size: int | None, what: str) -> None:
  while not folder.exists():
    folder = folder.parent
  free = shutil.disk_usage(folder).free
  if size is not None and size > free:
    raise errors.InputError(
      f'{what} needs {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB '
      'free'
    )
