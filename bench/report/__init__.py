"""Records → tables and pages."""
