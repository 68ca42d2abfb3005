-- Connections that an operator has paused, who it was, and when. Their lanes are closed for as long.
CREATE TABLE pause (
    connection TEXT PRIMARY KEY,
    paused_by  TEXT NOT NULL,
    paused_at  REAL NOT NULL
) STRICT, WITHOUT ROWID;
