from __future__ import annotations
import pickle, tempfile, time
from pathlib import Path
from wardround.platform import federation
from wardround.privacy import messages as m
from ...canaries import plant
from ...canary_runs import run_on
from .flare_machines import FlareRun, machines_in
from .capture import reader

def test_x(tmp_path):
    planted = plant(tmp_path / "p")
    with tempfile.TemporaryDirectory(prefix="wr-") as name:
        t=time.time()
        with machines_in(Path(name) / "r", ("east", "north", "south")) as machines:
            done=set()
            def fault(run, site, message):
                tag=m.tag_of(message)
                if site=="south" and tag=="survivors" and "a" not in done:
                    done.add("a"); raise RuntimeError("blabla")
                print(time.time()-t, site, tag, getattr(message,"session",None) and message.session.round)
                if site=="east" and tag=="share-delivery" and message.session.round==2 and "b" not in done:
                    done.add("b"); run.kill("east")
            flare = FlareRun(machines, tmp_path / "run" / "coordinator", fault)
            def change(patch):
                patch.setattr(federation, "SimulatedLine", flare.line)
            try:
                run = run_on(planted, tmp_path / "run", tmp_path / "cache", change=change, sites={"partition":"column","unseen":"west"}, reference={"source":"class-means"}, faa_clip={}, method="faa-clip", retries=3)
                print("ran", time.time()-t, run.error)
            finally:
                flare.close()
                print("closed", time.time()-t)
            fr = machines.take()
            print(flare.lost, flare.notes, flare.raised)
            with open("/tmp/h_canary_flare/frames.txt","w") as f:
                for k,v in sorted(reader.kinds(fr).items()): print(k,v,file=f)
                for x in fr: print(x.sender,"->",x.peer,x.kind,len(x.payload),x.headers,x.payload[:300],file=f)
            import subprocess; subprocess.run(["rm","-rf","/tmp/h_canary_flare/tree"]); subprocess.run(["cp","-r",str(machines.folder),"/tmp/h_canary_flare/tree"])
            t=time.time(); run.everything; print("det", time.time()-t)
