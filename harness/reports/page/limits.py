"""How much of a report one page shows. Every list has a limit, and says what it left out."""

from __future__ import annotations

MAX_TEXT = 3000  # characters of one piece of text, where nothing else is said
MAX_COMMAND = 1500
MAX_SECTION = 12_000_000  # characters of one section's lists
MAX_PAIR = 3_000_000  # characters of one comparison
MAX_LOOK = 1_500_000  # of one artifact that was looked into
MAX_COMPARISONS = 60  # of one finding
MAX_DIFFERENCES = 200  # of one comparison
MAX_PARTS = 200  # of one artifact
MAX_LINES = 400  # of one part
MAX_TOOL_LINES = 2000  # of what another tool said
MAX_LINE = 400  # characters
MAX_ROWS = 20_000  # of any other list
MAX_STAGES = 64  # of one model in the charts
MAX_FILES = 2000  # of the overview of a difference
MAX_CONSTANTS = 100  # of one model
MANY = 4  # models up to which each is shown open
