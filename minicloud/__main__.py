"""`python -m minicloud`: the local cloud in the foreground, for other programs; and what is left behind."""

import argparse
import sys

from minicloud import rundir


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m minicloud", description=__doc__)
    parser.add_argument("--region", default="us-east-1", help="the default Region (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="run the local cloud until Ctrl-C (the default); prints `export` lines")
    commands.add_parser("check", help="list what outlived its owner (engines, directories, shared memory); fail if any")
    commands.add_parser("sweep", help="delete what `check` lists, as far as it is ours")
    kernel = commands.add_parser("kernel", help="used by connect(): serve the process PID until it ends")
    kernel.add_argument("pid", type=int, metavar="PID")
    args = parser.parse_args()
    if args.command == "check":
        left = rundir.leftovers()
        print("\n".join(left) or "Nothing of minicloud is left behind.")
        return 1 if left else 0
    if args.command == "sweep":
        print("\n".join(f"deleted {path}" for path in rundir.sweep()) or "There was nothing to sweep.")
        return 0
    from minicloud import server

    if args.command == "kernel":
        server.serve_kernel(args.pid)
    else:
        server.serve_foreground(args.region)
    return 0


if __name__ == "__main__":
    sys.exit(main())
