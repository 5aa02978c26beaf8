"""Soft synchronisation: samples of many clocks in, frames on one grid out."""
