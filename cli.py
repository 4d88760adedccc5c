"""Run k710 from a checkout without installing it: `python cli.py build …`."""

from k710.cli import main

if __name__ == "__main__":
    main(prog_name="k710")
