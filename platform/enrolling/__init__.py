"""How hospitals and a coordinator become a consortium: signed files that people carry, and what each of them does."""
