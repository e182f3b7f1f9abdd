"""Proposals without training: stains, nuclei and regions for a person to review. Arrays in, arrays out.

Source: the paper's section II; METHOD.md, "Semi-automatic annotation". Nothing here is ever used for training before a
person has accepted it.
"""
