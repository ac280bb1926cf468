"""`python -m hpa_search.cli`, for where the console script is not installed."""

from hpa_search.cli import main

if __name__ == "__main__":
    main()
