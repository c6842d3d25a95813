"""Attacks on a trained camera, and the audit that judges it by the strongest of them."""
