-- From schema version 1 to 2: secrets, registries, and what revisions are prepared with.

ALTER TABLE revisions ADD COLUMN image TEXT;
ALTER TABLE revisions ADD COLUMN prepared_at REAL;
ALTER TABLE revisions ADD COLUMN secrets TEXT;

CREATE TABLE secrets (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at REAL NOT NULL,
    modified_at REAL NOT NULL,
    project_id TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
) STRICT;

CREATE TABLE registries (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    namespace TEXT NOT NULL,
    username TEXT NOT NULL,
    password TEXT NOT NULL,
    created_at REAL NOT NULL,
    modified_at REAL NOT NULL,
    kind TEXT
) STRICT;
