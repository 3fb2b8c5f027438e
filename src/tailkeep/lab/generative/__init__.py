"""Generative models of images and of points in the plane: autoencoders, flow matching, GANs.

The learners need torch, so nothing is loaded with the room.
"""
