"""How the cells lie to the tissue, and with what significance: one family of statistics a file, um in and out.

The way of the data: `tissue` sorts an image's objects; `measure` is the top, objects in and tables out (READ FIRST);
`measurements` puts numbers back on objects, `cohort` joins images, `rows` writes tables, `settings` holds the defaults.

First order: `window` (where a cell could lie), `borders` (exact distances to outlines), `distances`, `density`, `bands`
(level sets), `interfaces` (where regions meet, at rest and moved) on a `tissue_raster` with exact `coverage`,
`neighbours`. What "by chance" means: `nulls`, `multiple` (p-values, many tests), `envelopes` (tests of a whole
function). Second order: `pairs`, `edges` (edge corrections), `ripley`, `pair_correlation`, `nearest`, `intensity`; of
one image: `image_functions`. Coupling: `coupling`, `shifting`, `image_coupling`; of two classes: `pair_shifting`,
`image_pairs`. Neighbourhoods: `graph`, `enrichment`.

Patients: `cohort` (their table), `shares` (of a class's cells in each region), `case_functions`. Groups of patients:
`groups` with `rank_tests`, `group_functions`.

How far the numbers can be trusted: `agreement` (with a person's counts), `sensitivity` (to the threshold).
"""
