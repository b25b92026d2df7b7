"""The CLIP model that ships with the package: architecture, weights, vocabulary and the script that trained it."""
