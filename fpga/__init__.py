"""Boards, the on-board system and the build flow."""
