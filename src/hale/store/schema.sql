-- Schema version 2 (PRAGMA user_version). Instants are seconds since the epoch.
-- What is called sealed can be read with the key beside the database alone (seal.py).
-- Rows are listed by created_at, then in the order they came in (rowid).

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

-- value: sealed; project_id: '' for those of the team
CREATE TABLE secrets (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at REAL NOT NULL,
    modified_at REAL NOT NULL,
    project_id TEXT NOT NULL,
    PRIMARY KEY (project_id, name)
) STRICT;

-- password: sealed
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

CREATE TABLE deployments (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    created_at REAL NOT NULL,
    restarts INTEGER NOT NULL,
    deleted_at REAL
) STRICT;

-- secrets: sealed, NULL if there are none: [[name, value, created_at, modified_at, project_id], ...]
CREATE TABLE revisions (
    id TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    created_at REAL NOT NULL,
    applied_at REAL,
    healthy_at REAL,
    error TEXT,
    metadata TEXT NOT NULL,
    image TEXT,
    prepared_at REAL,
    secrets TEXT,
    UNIQUE (deployment_id, number)
) STRICT;

-- cause: [[kind, at, message], ...]; health: {probe kind: [verdict, streak, ok]}
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    deployment_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    template TEXT NOT NULL,
    created_at REAL NOT NULL,
    phase TEXT NOT NULL,
    since REAL NOT NULL,
    attempt INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    started_at REAL,
    passed_at REAL,
    ready_at REAL,
    first_ready_at REAL,
    due_at REAL,
    drain_until REAL,
    finished_at REAL,
    retired INTEGER NOT NULL,
    cause TEXT NOT NULL,
    health TEXT NOT NULL
) STRICT;

CREATE INDEX replicas_by_deployment ON replicas (deployment_id);

-- AUTOINCREMENT: the id of a deleted event never comes back, so that "after" stays true.
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    deployment_id TEXT,
    revision INTEGER,
    replica_id TEXT,
    attempt INTEGER,
    level TEXT NOT NULL,
    state TEXT NOT NULL,
    cause TEXT NOT NULL
) STRICT;

CREATE INDEX events_by_deployment ON events (deployment_id, id);
CREATE INDEX events_by_replica ON events (replica_id, id);
