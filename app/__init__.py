"""Hashtag-activated card-linked offers, from a post to money back on a card."""

__version__ = "0.1.0"
