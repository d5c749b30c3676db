"""What an operator sees of a running server: metrics, health, and a live page.

Everything is read when somebody asks; a connection pays nothing for it.
"""
