"""`python -m inpars_tpu VERB` is `inpars-tpu VERB`."""

from inpars_tpu import cli

if __name__ == '__main__':
  cli.run_and_exit()
