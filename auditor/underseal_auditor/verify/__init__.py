"""What an auditor checks for itself: the chain of statements, the catalogue, the opened numbers."""
