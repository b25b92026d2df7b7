"""Wardround: privacy-hardened federated medical imaging on a frozen CLIP.

Hospitals train a small adapter together; pictures never leave a site, the coordinator learns only a sum, and every byte
that leaves is written down first. The folders are the sub-packages:

- ``wardround.platform``: configuration, backbone, methods, rounds, engines, command line.
- ``wardround.privacy``: secure aggregation, egress gate, ledger, identities.
- ``wardround.medical_datasets``: images on disk to cohorts, splits, quality checks, synthetic phantoms.
- ``wardround.evaluation``: arrays to figures and reports; knows nothing of federation.
"""

__version__ = "0.1.0"
