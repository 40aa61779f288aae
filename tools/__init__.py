"""What `make` runs: install, execute the notebooks, build the site."""
