"""Checking memories, indices, bridges and trainings: is all as it was written?"""
