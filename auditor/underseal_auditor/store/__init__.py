"""What the registrar keeps on disk: answers, openings, the budget, the mirrored catalogue."""
