"""`python -m infra.embedded`."""

import sys

if __name__ == "__main__":
    try:
        # Here, because an interrupt while modules are loaded is no traceback either.
        from infra.embedded.cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
