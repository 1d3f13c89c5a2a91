"""What a core takes on a target: estimated from its parts, or the whole core by unit.

Begin with `estimate`.
"""
