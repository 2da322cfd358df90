"""Learning from people: votes, rankings and thumbs -> a reward model, or an adapter that people prefer."""
