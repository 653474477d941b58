"""A trainer that learns nothing: ``python trainer.py RUN_DIR DO``, DO = finish, die, hang, deaf or refuse."""

import os
import signal
import sys
import time
from pathlib import Path

from kdaif.runs import Run

run, do = Run(Path(sys.argv[1])), sys.argv[2]
if do == "refuse":
    sys.exit("there is no such thing")
signal.signal(signal.SIGTERM, signal.SIG_IGN if do == "deaf" else lambda *_: sys.exit(1))
with run.hold():
    run.write_status(state="running")
    if do in ("die", "advance"):
        run.write_status(epoch=run.status().epoch + (do == "advance"))
        os.kill(os.getpid(), signal.SIGKILL)
    if do in ("hang", "deaf"):
        print(os.environ.get("CUDA_VISIBLE_DEVICES", "no device"), flush=True)
        time.sleep(60)
    run.write_result({"test_accuracy": 0.5, "run_id": run.id})
    run.write_status(state="done")
