"""`python -m genve_core`, and the console script `genve`."""

import sys

from .ctrl_c import is_ctrl_c, noticing_ctrl_c


def run() -> int:
    """Run the command line and return its exit code; loading torch takes seconds, so Ctrl-C counts from here on."""
    with noticing_ctrl_c():
        try:
            from .cli import main
            from .memory import keep_freed_memory

            keep_freed_memory()
            return main()
        except (KeyboardInterrupt, Exception) as error:
            if not is_ctrl_c(error):
                raise
            print("genve: stopped by Ctrl-C before any work", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(run())
