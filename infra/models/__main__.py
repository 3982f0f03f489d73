"""`python -m infra.models`."""

import sys

if __name__ == "__main__":
    try:
        # Here, so that an interrupt while modules load prints no traceback either.
        from infra.models.cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
