"""The command line: `sciprob list | show | doctor | solve | fit | resume | compare | calibrate | simulate | ...`.

Nothing heavy is imported before a sub-command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from sciprob.cli.arguments import build_parser
from sciprob.errors import SciprobError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: Arguments without the program's name; default those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake in the request (one sentence on stderr), 1 a defect of the
        package, 130 interrupted.
    """
    args = build_parser().parse_args(argv)
    # raised on importing linear_operator and pyro, by newer versions of torch also where users see it
    warnings.filterwarnings("ignore", message=r".torch\.jit\.script. is deprecated")
    module, function = args.run.split(":")
    try:
        code: int = getattr(importlib.import_module(module), function)(args)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"{interrupt or 'Interrupted.'}\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `sciprob list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SciprobError as error:
        return _complain(error, 2, debug=args.debug)
    except OSError as error:
        hint = "; check the path and its permissions." if error.filename else ""
        return _complain(error, 2, after=hint, debug=args.debug)
    except Exception as error:  # any other is a defect, which still deserves one readable line
        hint = " (unexpected; run again with --debug and report the traceback)"
        return _complain(error, 1, f"{type(error).__name__}: ", hint, debug=args.debug)
    return code


def _complain(error: Exception, code: int, before: str = "", after: str = "", *, debug: bool) -> int:
    if debug:
        raise error
    sys.stderr.write(f"sciprob: {before}{' '.join(str(error).split())}{after}\n")
    return code
