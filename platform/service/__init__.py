"""What runs for days: a site's and the coordinator's processes, what they show of themselves, and the check before."""
