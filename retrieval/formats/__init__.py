"""Reading one file of each format, hostile ones too, in bounded memory and time."""
