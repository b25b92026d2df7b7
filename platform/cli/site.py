"""``wardround site``: what a site's own people do with its home."""

from __future__ import annotations

import typer

from . import site_data, site_enrol, site_join, site_keys, site_policy, site_start, site_status

app = typer.Typer(
    no_args_is_help=True, help="A site's own home. Example: wardround site purge --home runs/brain/homes/a"
)


@app.callback()
def group() -> None:
    """Look after a site's home: its policy, its data, its keys."""


app.command("join")(site_join.join)
app.command("approve")(site_enrol.approve)
app.add_typer(site_enrol.roster, name="roster")
app.command("start")(site_start.start)
app.command("status")(site_status.site_status)
app.command("stop")(site_status.site_stop)
app.command("leave")(site_enrol.leave)
app.command("forget")(site_data.forget)
app.command("purge")(site_data.purge)
app.command("rotate-key")(site_keys.rotate_key)
app.add_typer(site_policy.app, name="policy")
