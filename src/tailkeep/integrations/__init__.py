"""Thin adapters to trainers. Each is imported by its own name and brings its trainer only: nothing is opened here."""
