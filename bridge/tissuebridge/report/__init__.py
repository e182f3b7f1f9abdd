"""Pictures and pages that show a person what was found and how good it is."""
