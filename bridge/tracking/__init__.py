"""Trackers: where else the figures of a training are shown, behind one small interface."""
