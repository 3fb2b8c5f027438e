"""Closed forms and simulations of the recursion: moments, least squares, drift, selection and migration of counts."""
