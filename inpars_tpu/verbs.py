"""What the command line can do: each verb, its module and its flags.

Imports no stage, so that help and errors cost nothing.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Flag:
  """One `--name=value` of a verb."""

  name: str
  help: str
  required: bool = False
  default: str | None = None
  repeated: bool = False  # Given more than once; the value is a list.
  boolean: bool = False  # `--name` alone, or `--name=true|false`.
  choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verb:
  """One command. `module` has main(args); None: not in this version yet."""

  summary: str
  module: str | None
  flags: tuple[Flag, ...] = ()
  trains: bool = False  # In its own process, which may have but a CPU.


def _need(name: str, text: str) -> Flag:
  return Flag(name, text, required=True)


_CORPUS = _need('corpus', 'corpus.jsonl in BEIR layout (_id, title, text)')
_DOCUMENTS = _need('documents', 'documents.jsonl, as sample writes it')
_ENGINE = Flag(
  'engine', 'which trainer', default='embedded', choices=('embedded', 't5x')
)
_RERANKER = _need(
  'model',
  'reranker: a Hugging Face directory, or a t5x checkpoint with config.json',
)
_LABEL_WORDS = Flag(
  'label_words',
  'words that the reranker was trained to say, "false,true", for a model '
  'that does not say so itself',
)
_MESH = Flag(
  'mesh',
  'parts of a batch and of the weights, "data=2,model=4"; default: as few '
  'parts of the weights as fit the memory',
)
_LANGUAGE = Flag('language', 'analyzer of the index', default='en')
_TEST_QUERIES = _need('queries', 'queries.jsonl (_id, text)')
_WORK_DIR = _need('work_dir', 'where everything is written, and resumed from')
# Of a verb whose output is many files; processes.from_flags reads them.
PROCESSES = (
  Flag(
    'shard_index',
    'this process, from 0, of --num_shards that share only the output',
  ),
  Flag('num_shards', 'how many processes share the output'),
  Flag(
    'process_id',
    "this process, from 0, of --num_processes that meet in JAX's runtime",
  ),
  Flag('num_processes', 'how many processes meet'),
  Flag(
    'coordinator_address',
    'HOST:PORT of process 0, where they meet; "auto", and no other of these '
    'flags, on a TPU pod or under Slurm or Open MPI',
  ),
)

VERBS: Mapping[str, Verb] = {
  'demo': Verb(
    'the whole loop on a small corpus and models that ship with the package',
    'inpars_tpu.demo.main',
    (
      Flag('work_dir', 'where everything is written', default='demo'),
    ),
    trains=True,
  ),
  'run': Verb(
    'the whole loop on one dataset; skips what is complete, resumes the rest',
    'inpars_tpu.run',
    (
      _need('dataset', 'a BEIR name below data_dir, or a folder in its layout'),
      Flag('data_dir', 'where datasets and prompts are', default='data'),
      _WORK_DIR,
      _need('generator', 'GPT-J: a Hugging Face directory'),
      _need('reranker', 'monoT5 that filters and that training starts from'),
      Flag('filter_model', 'another reranker for the filter'),
      Flag('first_stage_run', 'a TREC run to rerank instead of BM25'),
      _LANGUAGE,
      _LABEL_WORDS,
      _ENGINE,
      *PROCESSES[2:],
    ),
    trains=True,
  ),
  'datasets': Verb('the table of known datasets', 'inpars_tpu.beir'),
  'download': Verb(
    'fetch a dataset, a model, the published prompts or queries',
    'inpars_tpu.download',
    (
      Flag('dataset', "of BEIR's, by the name that `datasets` lists"),
      Flag('zip', "the dataset's zip, where it was fetched otherwise"),
      Flag('server', "where NAME.zip is, if not on BEIR's own server"),
      Flag('model', 'gpt-j-6b, monot5-3b-msmarco-10k, or any owner/name of the '
           'Hugging Face hub; goes to data_dir/models'),
      Flag('synthetic', "the authors' synthetic queries of a dataset"),
      Flag('prompts', 'the published few-shot prompts', boolean=True),
      Flag('data_dir', 'where they go', default='data'),
    ),
  ),
  'import': Verb(
    "make BEIR's layout of TSV, other field names, gz, zst or a pipe",
    'inpars_tpu.importer',
    (
      _need('corpus', 'JSONL or TSV, plain or gz or zst; - is stdin'),
      Flag('format', 'default: what the name of the file says',
           choices=('jsonl', 'tsv')),
      Flag('columns', 'of a TSV without a first line that names them: '
           '_id,title,text'),
      Flag('id_field', 'field or column of the id', default='_id'),
      Flag('title_field', 'of the title; may be missing', default='title'),
      Flag('text_field', 'of the text', default='text'),
      Flag('quoted', 'fields of a TSV may stand in quotes, with tabs and '
           'newlines in them', boolean=True),
      Flag('queries', 'queries in the same form'),
      Flag('query_columns', 'as columns, of the queries'),
      Flag('qrels', "BEIR's test.tsv, or TREC qrels"),
      _need('output', 'directory for --dataset'),
    ),
  ),
  'init': Verb(
    'write a model directory with random weights',
    'inpars_tpu.init',
    (
      _need('config', 'a named size (gptj_tiny ... t5_3b) or a config.json'),
      _need('tokenizer', 'directory of tokenizer files, copied into the model'),
      Flag('seed', 'seed of the weights', default='1'),
      _need('output', 'the model directory'),
    ),
  ),
  'sample': Verb(
    'draw documents from a corpus',
    'inpars_tpu.sample',
    (_CORPUS, _need('output', 'documents.jsonl')),
  ),
  'generate': Verb(
    'write one query for each document, greedily, with GPT-J',
    'inpars_tpu.generate',
    (
      _DOCUMENTS,
      _need('model', 'GPT-J: a Hugging Face directory'),
      _need('output', 'directory of query shards'),
      Flag('data_dir', 'where downloaded prompts are', default='data'),
      Flag('save_prompts', 'keep each prompt beside its query', boolean=True),
      *PROCESSES,
      _MESH,
    ),
  ),
  'filter': Verb(
    'keep the best queries by rules and the reranker',
    'inpars_tpu.filter',
    (
      _need('queries', "generate's directory, or one JSONL file"),
      _DOCUMENTS,
      Flag('model', 'reranker; needed where FILTER_BY is "reranker"'),
      _LABEL_WORDS,
      *PROCESSES,
      _MESH,
      _need('output', 'filtered.jsonl; validation.jsonl is written beside it'),
    ),
  ),
  'index': Verb(
    'index a corpus with Lucene',
    'inpars_tpu.index',
    (_CORPUS, _LANGUAGE, _need('output', 'index directory')),
  ),
  'search': Verb(
    'BM25 run of the test queries',
    'inpars_tpu.search',
    (
      _need('index', "index's directory, or pyserini:NAME (prebuilt)"),
      _TEST_QUERIES,
      Flag('qrels', 'search only the queries that these judge'),
      Flag(
        'exclude_own_id',
        "leave out the document that has the query's own id (ArguAna, Quora)",
        boolean=True,
      ),
      _need('output', 'TREC run'),
    ),
  ),
  'negatives': Verb(
    'give each kept query BM25 negatives; write the training pairs',
    'inpars_tpu.negatives',
    (
      _need('queries', 'filtered.jsonl; reads validation.jsonl beside it too'),
      _CORPUS,
      _need('index', "index's directory"),
      Flag('name', "name of the pairs; default: the corpus's folder"),
      _need('output', 'TFDS data directory'),
    ),
  ),
  'train': Verb(
    'fine-tune the reranker on the pairs',
    'inpars_tpu.train',
    (
      _need('pairs', "negatives' directory"),
      _RERANKER,
      _LABEL_WORDS,
      _ENGINE,
      *PROCESSES[2:],
      _MESH,
      _need('output', 'checkpoints/, model/, metrics.jsonl go here'),
    ),
    trains=True,
  ),
  'score': Verb(
    'log P(true) of each (query, text) pair',
    'inpars_tpu.score',
    (
      _need('pairs_file', 'JSONL with query and text'),
      _RERANKER,
      _LABEL_WORDS,
      *PROCESSES,
      _MESH,
      _need('output', 'the same lines with log_prob_true'),
    ),
  ),
  'rerank': Verb(
    'rerank a TREC run',
    'inpars_tpu.rerank',
    (
      _need('run', 'TREC run'),
      _CORPUS,
      _TEST_QUERIES,
      _RERANKER,
      _LABEL_WORDS,
      *PROCESSES,
      _MESH,
      _need('output', 'TREC run'),
    ),
  ),
  'evaluate': Verb(
    'nDCG@10 and others of TREC runs',
    'inpars_tpu.evaluate',
    (
      _need('qrels', "BEIR's test.tsv, or TREC qrels"),
      Flag('run', 'TREC run; may be repeated', required=True, repeated=True),
      Flag('baseline', 'run to test the difference against'),
      Flag('seeds', 'runs of one file name in several folders are seeds of one '
           'method: adds their mean and deviation', boolean=True),
      Flag('output', 'metrics.json'),
    ),
  ),
  'report': Verb(
    'one page of what a run gave: report.html, report.md',
    'inpars_tpu.report',
    (
      _need('work_dir', "one dataset's folder, or the folder above several"),
      Flag('price', 'of one device for one hour, "3.22"; adds the cost'),
    ),
  ),
  'convert': Verb(
    'a T5 between Hugging Face, t5x and Mesh TensorFlow',
    'inpars_tpu.convert',
    (
      Flag(
        'from_format', 'what the model is', required=True,
        choices=('hf', 't5x', 'mesh_tf'),
      ),
      Flag(
        'to_format', 'what it shall be', required=True, choices=('hf', 't5x')
      ),
      _need('model', 'directory; mesh_tf: DIR/model.ckpt-1010000'),
      Flag('config', 'a named size (t5_small ...) or a config.json, for a '
           'model without one'),
      Flag('tokenizer', 'directory of tokenizer files, for a model without'),
      _LABEL_WORDS,
      _need('output', 'the model directory'),
    ),
  ),
  'export': Verb(
    'the synthetic data as a Hugging Face dataset, with its card',
    'inpars_tpu.export',
    (
      _need('work_dir', "one dataset's folder in a run's work_dir"),
      _need('output', 'directory that datasets.load_dataset reads'),
    ),
  ),
  'plan': Verb(
    'hours, memory, disk and money before anything runs',
    'inpars_tpu.plan',
    (
      _need('dataset', 'a BEIR name, a folder in its layout, or "all"'),
      _need('machine', 'a TPU type (v3-8, v5litepod-64), a100-80gb-1, cpu ...'),
      Flag('data_dir', 'where datasets and prompts are', default='data'),
      Flag('work_dir', 'says whether its disk has the room'),
      Flag('generator', 'GPT-J: a directory, or a name whose sizes are known',
           default='gpt-j-6b'),
      Flag('reranker', 'monoT5: as the generator',
           default='monot5-3b-msmarco-10k'),
      Flag('filter_model', 'another reranker for the filter'),
      Flag('first_stage_run', 'a TREC run to rerank instead of BM25'),
      _LANGUAGE,
      _LABEL_WORDS,
      _ENGINE,
      Flag('document_tokens', 'of every document; default: of a sample'),
      Flag('new_tokens', 'of every query, its end with it'),
      Flag('utilisation', "of the machine's peaks", default='0.4'),
      Flag('peak', 'FLOP/s of a device, in place of the table'),
      Flag('bandwidth', 'bytes/s of its memory'),
      Flag('price', 'of an hour of the machine, "8.00"'),
      Flag('compile', "memory by the TPU's compiler (minutes)", boolean=True),
      Flag('json', 'a JSON line for each dataset', boolean=True),
    ),
  ),
}  # fmt: skip

GIN_HELP = (
  '--gin_file=gin/x.gin (repeatable; default gin/inpars_v2.gin) and '
  '--gin.NAME=VALUE (repeatable) set the numbers of the method'
)
