"""Find out what a network path does to bytes.

The path ends in an echo (RFC 862): what comes back must be what was sent. The probe holds
conversations over it, generated and from a catalogue of what is known to break real paths,
judges what comes back, and shrinks a failure to the shortest conversation that shows it.

It needs the extra ``probe``: ``pip install 'echoproto[probe]'``.
"""
