"""`python -m infra.doctor`."""

import sys

if __name__ == "__main__":
    try:
        # Here, because an interrupt while modules are loaded is no traceback either.
        from infra.doctor.cli import main

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
