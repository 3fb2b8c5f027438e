"""Run a command and print its time and peak memory as one line of JSON, after the command's own output.

It is a separate process, so that the sum over its children contains this command only.
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
    cost = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": spent.ru_utime + spent.ru_stime,
        "peak_mib": spent.ru_maxrss / unit,
    }
    print(json.dumps(cost), flush=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
