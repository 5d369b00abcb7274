"""`python -m genve_core`, and the console script `genve`."""

import sys


def run() -> int:
    """Run the command line and return its exit code; loading torch takes seconds, so Ctrl-C counts from here on."""
    try:
        from .cli import main
        from .memory import keep_freed_memory

        keep_freed_memory()
        return main()
    except KeyboardInterrupt:
        print("genve: stopped by Ctrl-C before any work", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
