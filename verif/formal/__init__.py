"""Proofs for all inputs, each with a broken twin that has to be refuted: ``lutcore prove``.

`properties` holds what is claimed, `model` what a claim is made of, `engine` asks the solver. Begin
with `registry`.
"""
