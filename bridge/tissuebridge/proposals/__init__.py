"""Proposals: regions by colour and nuclei by stain, without training, for a person to review.

The same engine as inference, with other workers. An image and settings come in (`settings`), what belongs to the whole
image is found once (`measure`), tiles are worked off (`tiles`), and an `Analysis` whose classes are `Proposed: ...`
goes out (`propose`). `review` keeps what a person said of them. Source: the paper's section II; METHOD.md,
"Semi-automatic annotation".
"""
