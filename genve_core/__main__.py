"""`python -m genve_core`, and the console script `genve`."""

import os
import sys

from .ctrl_c import is_ctrl_c, noticing_ctrl_c

WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPINS = "10000"  # where GNU's OpenMP has 300,000 by itself


def wait_asleep() -> None:
    """Let the threads of torch's operations soon sleep while they wait for each other, unless the user has said how they are to
    wait. Spinning, they keep a core from the very thread that they wait for where other work wants the same cores.

    To be called before torch is loaded: GNU's OpenMP reads this once. Others ignore it.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def run() -> int:
    """Run the command line and return its exit code; loading torch takes seconds, so Ctrl-C counts from here on."""
    wait_asleep()
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
