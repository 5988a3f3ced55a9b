"""`python -m speechprompt` is the command `speechprompt`."""

from speechprompt.cli import main

if __name__ == "__main__":
    main()
