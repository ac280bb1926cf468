"""Run the command line as `python -m hpa_search.cli`, where the console script is not installed."""

from hpa_search.cli import main

if __name__ == "__main__":
    main()
