"""What may be released: the policy file, the rules over it, and the budget of the key."""
