"""Grids of runs and their results: starts `train.py` as a process and reads what it leaves on disk.

Imports neither the engine nor torch, so that it starts at once and reads results on any machine.
"""
