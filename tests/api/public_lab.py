"""Environment of the host of the public lab under test."""

from __future__ import annotations

TOKEN = "hf_" + "T0k3n" * 7
LIMITS = {"steps": 5, "waiting_jobs": 2, "upload_megabytes": 2, "local_paths": False}
