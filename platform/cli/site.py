"""``wardround site``: what a site's own people do with its home."""

from __future__ import annotations

import typer

from . import site_data, site_keys, site_policy

app = typer.Typer(
    no_args_is_help=True, help="A site's own home. Example: wardround site purge --home runs/brain/homes/a"
)


@app.callback()
def group() -> None:
    """Look after a site's home: its policy, its data, its keys."""


app.command("forget")(site_data.forget)
app.command("purge")(site_data.purge)
app.command("rotate-key")(site_keys.rotate_key)
app.add_typer(site_policy.app, name="policy")
