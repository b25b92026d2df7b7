"""Procedural phantoms: pictures that imitate brain MRI and dermoscopy, with nobody's data in them."""
