"""The operating system's side: files, streams, signals, threads, compiled code. Nothing here knows archives or models."""
