"""What all reports share: Markdown tables, the style of figures, and the numbers of the paper."""
