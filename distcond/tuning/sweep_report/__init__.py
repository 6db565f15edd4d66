"""Reading a sweep: its trials as rows, what matters in them, figures and one page. Needs no Ray."""
