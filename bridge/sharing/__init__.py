"""Sharing bridges: to and from plain folders and the Hugging Face Hub, without anything pickled."""
