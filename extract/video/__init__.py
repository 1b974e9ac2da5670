"""From a video file to frames, in processes that can be killed, and back to clips."""
