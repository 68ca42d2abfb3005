"""Where jobs live: the Store port, by group commit, on SQLite."""
