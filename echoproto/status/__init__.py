"""What an operator sees of a running server: metrics, health, and a live page.

Everything is read on request; connections pay nothing for it.
"""
