"""Amazon RDS on real databases: `api.py` speaks AWS's words, `plane.py` knows what runs where, `instance.py` composes
servers into DB instances, `limits.py` refuses what RDS refuses."""
