"""One file a data set: what it is, how it lies on disk, and how its images are found."""
