-- A database as schema version 1 had it.
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at REAL NOT NULL
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

PRAGMA application_id = 1751215205;
PRAGMA user_version = 1;

INSERT INTO projects VALUES ('default', 'default', 1.0);
INSERT INTO deployments VALUES ('d1', 'default', 'web', 'web', 2.0, 3, NULL);
INSERT INTO revisions VALUES ('r1', 'd1', 1, '{"name":"web"}', 2.0, 2.5, 3.5, NULL, '{"x-git-sha":"abc"}');
INSERT INTO revisions VALUES ('r2', 'd1', 2, '{"name":"web"}', 4.0, NULL, NULL, 'no port', '{}');
INSERT INTO replicas VALUES (
    'i1', 'd1', 1, 'key', 2.5, 'ready', 3.0, 1, 0, 0, 2.6, NULL, 3.0, NULL, NULL, NULL, NULL, 0,
    '[]', '{"startup":["passing",2,true]}'
);
INSERT INTO events VALUES (
    41, 2.0, 'deployment.created', 'created with 1 replica', 'd1', 1, NULL, NULL, 'normal', '', '[]'
);
