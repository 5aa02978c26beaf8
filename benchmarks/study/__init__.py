"""Parts of sim_study.py."""
