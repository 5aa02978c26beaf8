"""Simulated bimanual ALOHA: the tasks of Zhao et al. (2023), as a robot like any other."""
