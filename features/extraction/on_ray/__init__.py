"""Extraction on Ray: decoding on all CPUs of a cluster, encoders in actors on its GPUs."""
