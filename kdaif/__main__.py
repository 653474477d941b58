"""``python -m kdaif``."""

from kdaif.cli import main

if __name__ == "__main__":
    main()
