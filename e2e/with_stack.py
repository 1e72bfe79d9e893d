"""Runs a command while the engines and the gateway are up, and ends with its status.

    .e2e/sdk/bin/python e2e/with_stack.py node --test e2e/node/

Where they listen is in the command's environment (`Stack.environment`).
"""

import os
import subprocess
import sys

from harness.stack import Stack

with Stack() as stack:
    environment = {**os.environ, **stack.environment()}
    status = subprocess.run(sys.argv[1:], check=False, env=environment).returncode
sys.exit(status)
