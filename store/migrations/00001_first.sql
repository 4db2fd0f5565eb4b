-- One text for SQLite and PostgreSQL: TEXT, BIGINT and INTEGER only; times are microseconds since 1970.

-- +goose Up
CREATE TABLE alerts (
	id TEXT PRIMARY KEY,
	at BIGINT NOT NULL,
	node TEXT NOT NULL,
	workload TEXT NOT NULL,
	rule TEXT NOT NULL,
	technique TEXT NOT NULL,
	severity INTEGER NOT NULL, -- 1 low to 4 critical
	action TEXT NOT NULL,
	repeats BIGINT NOT NULL,   -- Alert.Count
	heal TEXT NOT NULL,        -- section and value that approving it would add; empty when nothing
	healed INTEGER NOT NULL,
	body TEXT NOT NULL         -- the whole alert as JSON
);
CREATE INDEX alerts_at ON alerts (at DESC, id DESC);
CREATE INDEX alerts_workload ON alerts (workload, at DESC, id DESC);
CREATE INDEX alerts_rule ON alerts (rule, at DESC, id DESC);
CREATE INDEX alerts_technique ON alerts (technique, at DESC, id DESC);
CREATE INDEX alerts_counts ON alerts (workload, action);
CREATE INDEX alerts_heal ON alerts (workload, heal);

CREATE TABLE nodes (
	id TEXT PRIMARY KEY,
	seen BIGINT NOT NULL,
	report TEXT NOT NULL       -- JSON
);

-- What people decided about a workload.
CREATE TABLE workloads (
	name TEXT PRIMARY KEY,
	mode TEXT NOT NULL,
	anyway INTEGER NOT NULL,
	decided_by TEXT NOT NULL,
	decided_at BIGINT NOT NULL
);

-- What nodes said about a workload.
CREATE TABLE workload_nodes (
	workload TEXT NOT NULL,
	node TEXT NOT NULL,
	seen BIGINT NOT NULL,
	report TEXT NOT NULL,      -- JSON
	profile TEXT NOT NULL,     -- JSON; empty until the node sent one
	PRIMARY KEY (workload, node)
);
CREATE INDEX workload_nodes_node ON workload_nodes (node);

CREATE TABLE approvals (
	id TEXT PRIMARY KEY,
	workload TEXT NOT NULL,
	section TEXT NOT NULL,
	value TEXT NOT NULL,
	decided_by TEXT NOT NULL,
	decided_at BIGINT NOT NULL
);
CREATE INDEX approvals_workload ON approvals (workload);
-- The nodes that have it.
CREATE TABLE approval_nodes (
	approval TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
	node TEXT NOT NULL,
	PRIMARY KEY (approval, node)
);

CREATE TABLE users (
	name TEXT PRIMARY KEY,
	hash TEXT NOT NULL,
	role TEXT NOT NULL,
	created BIGINT NOT NULL
);
CREATE TABLE sessions (
	hash TEXT PRIMARY KEY,     -- of the token; the token itself is nowhere
	name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
	expires BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);

-- Each entry holds the hash of the one before: a removed or changed one shows.
CREATE TABLE audit (
	seq BIGINT PRIMARY KEY,
	at BIGINT NOT NULL,
	actor TEXT NOT NULL,
	origin TEXT NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	detail TEXT NOT NULL,
	outcome TEXT NOT NULL,
	hash TEXT NOT NULL
);

-- +goose Down
DROP TABLE audit;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE approval_nodes;
DROP TABLE approvals;
DROP TABLE workload_nodes;
DROP TABLE workloads;
DROP TABLE nodes;
DROP TABLE alerts;
