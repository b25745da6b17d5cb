"""Text within a grammar: JSON schemas and regular expressions, by XGrammar (extra `grammar`)."""
