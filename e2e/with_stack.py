#!/usr/bin/env python
"""Runs a command while the engines and the gateway are up; where they listen is in its environment (E2E_…).

    .e2e/sdk/bin/python e2e/with_stack.py node --test e2e/node/
"""

import os
import subprocess
import sys

from harness.stack import Stack

with Stack() as stack:
    status = subprocess.run(sys.argv[1:], env={**os.environ, **stack.environment()}).returncode
sys.exit(status)
