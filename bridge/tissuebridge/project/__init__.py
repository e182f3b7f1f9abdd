"""Where images and their objects come from: the seam (`base`), folders, and reading pixels."""
