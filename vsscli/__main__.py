"""``python -m vsscli`` is ``vss``."""

from vsscli.cli.app import main

if __name__ == "__main__":
    main()
