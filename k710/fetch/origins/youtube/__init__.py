"""YouTube as an origin: asking it by yt-dlp, reading its answers, and stopping when it has had enough."""
