"""The pages: CSV files, HTML, Markdown, LaTeX and the tables on a terminal."""
