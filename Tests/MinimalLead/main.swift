// Replaced by the program of docs/embedding.md.
