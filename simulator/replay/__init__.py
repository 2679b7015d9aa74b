"""Replay of traces through the scheduler's own engine.

A trace is a file of nodes and a file of pods in the openb format. Here the pods arrive one by one, the engine decides,
and what of the GPUs is allocated is measured. No cluster, no API server, no waiting: only the decisions are real.
"""
