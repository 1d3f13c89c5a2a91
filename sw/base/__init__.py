"""What every tool needs: errors, files that are whole, the cache, progress, tables as text.

Knows nothing of matrices or hardware. Begin with `errors`.
"""
