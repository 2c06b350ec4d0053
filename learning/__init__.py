"""What methods that learn prompts share: their keys."""
