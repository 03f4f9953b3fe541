"""What the host of the lab that these tests call has set."""

from __future__ import annotations

TOKEN = "hf_" + "T0k3n" * 7
LIMITS = {"steps": 5, "waiting_jobs": 2, "upload_megabytes": 2, "local_paths": False}
