"""`python -m minicloud`: the local cloud in the foreground, for other programs; and clearing up what is left behind."""

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
    aws = commands.add_parser("sweep-aws", help="show what live mode left on your AWS account; with --delete, delete it")
    aws.add_argument("--delete", action="store_true", help="delete it, and wait until it is gone")
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
    if args.command == "sweep-aws":
        return _sweep_aws(args.delete, args.region)
    from minicloud import server

    if args.command == "kernel":
        server.serve_kernel(args.pid, args.region)
    else:
        server.serve_foreground(args.region)
    return 0


def _sweep_aws(delete: bool, region: str) -> int:
    from minicloud import live
    from minicloud.prices import Refused

    try:
        left = live.sweep(delete=delete, region=region)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
