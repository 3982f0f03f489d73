"""`fleet`, also as `python -m infra.cli`."""

import sys


def main() -> None:
    """Runs the command line and ends the process with its exit status."""
    try:
        # Here, because an interrupt while modules load must not end in a traceback.
        from infra.cli.app import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
