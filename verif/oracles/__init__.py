"""What a unit has to give, worked out from the contract: one oracle for each unit under test.

Takes random work for a unit, gives all that leaves it. Begin with `table`.
"""
