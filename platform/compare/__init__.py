"""``wardround compare``: a grid of methods, variants, seeds and left-out sites, run and put side by side."""
