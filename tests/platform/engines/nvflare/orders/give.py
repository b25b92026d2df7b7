"""Gives FLARE's server orders as somebody, in a process of its own: ``python give.py KIT USER < orders.json``.

An order is ``["submit", folder]``, of which the answer is the job's end, ``["deploy", folder]``, of which it is what
the sites said, or ``["command", line]``. The answers are one JSON list on the last line of standard output.
"""

import json
import sys
import time
from typing import Any

from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

SECONDS = 60.0


def end_of(session: Session, job: str, until: float, deployed: bool) -> dict[str, Any]:
    while True:
        meta = session.get_job_meta(job)
        if (
            (deployed and meta.get("job_deploy_detail"))
            or str(meta["status"]).startswith("FINISHED")
            or time.monotonic() > until
        ):
            return {"status": meta["status"], "detail": meta.get("job_deploy_detail") or []}
        time.sleep(0.2)


def main() -> None:
    kit, user = sys.argv[1:]
    session = new_secure_session(user, kit, timeout=20.0)
    answers: list[Any] = []
    jobs: dict[int, str] = {}
    orders = json.load(sys.stdin)
    for number, (kind, argument) in enumerate(orders):
        answers.append(None)
        try:
            if kind in ("submit", "deploy"):
                jobs[number] = session.submit_job(argument)
            else:
                answers[number] = session.api.do_command(argument)
        except Exception as error:
            answers[number] = {"status": "", "detail": [], "error": f"{type(error).__name__}: {error}"}
    until = time.monotonic() + SECONDS
    for number, job in jobs.items():
        answers[number] = end_of(session, job, until, orders[number][0] == "deploy")
    session.close()
    print("\n" + json.dumps(answers, default=str))


main()
