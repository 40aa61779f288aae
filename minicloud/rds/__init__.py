"""Amazon RDS and Aurora on real databases: `api.py` and `aurora.py` speak AWS's words, `plane.py` and `aurora_plane.py` know
what runs where, `instance.py` and `cluster.py` compose servers. Beside them stands a module for each feature."""
