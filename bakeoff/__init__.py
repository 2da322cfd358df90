"""The shared language of Bakeoff: records, modes, prompts, settings, errors, database, artefacts; on top, the CLI."""
