"""Speed and memory, always as a ratio to the published computation in the same run."""
