"""Found moments on their way to people: pictures, clips, subtitles, verdicts."""
