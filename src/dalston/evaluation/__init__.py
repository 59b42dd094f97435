"""How well recordings are transcribed whose truth is known, by the whole server and by bare libraries.

The metrics' libraries are not the server's: they come with `pip install 'dalston[eval]'`.
"""
