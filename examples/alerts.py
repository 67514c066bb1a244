"""Print what needs attention, from JSON logs of the tap; exit with 1 if there is anything.

    python alerts.py sync.log [MORE_LOGS ...]      oldest first, with "log_format": "json"

Adjust the limits, or move the conditions to where your logs are: docs/operations.md lists the
members.
"""

import fileinput
import json
import sys
from datetime import datetime, timedelta

MAX_AGE = timedelta(days=3)  # a bundle appears about a day after its end
MAX_FAILURES = 2  # in a row
MIN_SPEED = 0.5  # events a second, beside the day before
MAX_GROWTH = 10  # rows, beside the day before

runs, bundle_end, days = {}, None, {}
with fileinput.input() as logs:
    lines = [json.loads(text) for text in logs if text.startswith("{")]
for line in lines:
    if line["level"] == "CRITICAL":  # a run that fails before its sync has no other last line
        runs[line["run_id"]] = "failed"
    if "outcome" not in line:
        continue
    runs[line["run_id"]] = line["outcome"]
    bundle_end = line["newest_bundle_end"] or bundle_end
    day = days.setdefault(line["time"][:10], {"events": 0, "rows": 0, "seconds": 0})
    day["events"] += line["events"]
    day["rows"] += line["events"] + line["records"]
    day["seconds"] += line["seconds"]
    now = datetime.fromisoformat(line["time"].replace("Z", "+00:00"))

alerts = []
if bundle_end and now - datetime.fromisoformat(bundle_end.replace("Z", "+00:00")) > MAX_AGE:
    alerts.append(f"No new data: the newest bundle ends at {bundle_end}.")
if list(runs.values())[-MAX_FAILURES:] == ["failed"] * MAX_FAILURES:
    alerts.append(f"The last {MAX_FAILURES} runs failed.")
if len(days) > 1:
    before, last = [days[day] for day in sorted(days)[-2:]]
    if 0 < last["events"] / last["seconds"] < MIN_SPEED * before["events"] / before["seconds"]:
        alerts.append("Slower than the day before.")
    if last["rows"] > MAX_GROWTH * before["rows"] > 0:
        alerts.append(f"{last['rows']} rows, after {before['rows']} the day before.")
print("\n".join(alerts), end="\n" if alerts else "")
sys.exit(1 if alerts else 0)
