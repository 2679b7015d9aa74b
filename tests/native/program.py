"""What runs in the container: functions of a module, each of which gets the driver."""

import importlib
import json
import sys
import traceback

from tests.native.driver import Driver


def main(job: dict[str, object]) -> None:
    """Runs the functions up to the first that fails, and writes for each a line of its name and what went wrong."""
    module = importlib.import_module(str(job["module"]))
    driver = Driver(**job.get("driver", {}))  # type: ignore[arg-type]
    for name in job["names"]:  # type: ignore[attr-defined]
        try:
            module.run(name, driver)
            failure = ""
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps([name, failure]), flush=True)
        if failure:
            break


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
