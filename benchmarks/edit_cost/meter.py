"""Runs the command that is its arguments and prints, last, what it has spent as one line of JSON.

A process of its own, so that what other commands have spent is in no sum of its children.
"""

import json
import resource
import subprocess
import sys
import time


def main() -> None:
    begin = time.perf_counter()
    done = subprocess.run(sys.argv[1:], check=False)  # noqa: S603
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    found = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": spent.ru_utime + spent.ru_stime,
        "peak_mib": spent.ru_maxrss / unit,
    }
    print(json.dumps(found), flush=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
