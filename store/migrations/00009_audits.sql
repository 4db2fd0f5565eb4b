-- What agents found on their hosts: scores for long, reports for as long as somebody may ask what was.

-- +goose Up
CREATE TABLE audits (
	id TEXT PRIMARY KEY,
	cluster TEXT NOT NULL,
	node TEXT NOT NULL,
	at BIGINT NOT NULL,
	cause TEXT NOT NULL,       -- start, change, time
	score BIGINT NOT NULL,     -- tenths
	layers TEXT NOT NULL,      -- JSON
	counts TEXT NOT NULL,      -- JSON
	severe BIGINT NOT NULL,    -- checks of severity high or critical that fail
	drift BIGINT NOT NULL,     -- answers that are others than before
	body BYTEA                 -- the report as JSON, gzip; null: was removed
);
CREATE INDEX audits_node ON audits (node, at);
CREATE INDEX audits_at ON audits (at);

CREATE TABLE audit_exceptions (
	id TEXT PRIMARY KEY,
	check_id TEXT NOT NULL,
	node TEXT NOT NULL,
	owner TEXT NOT NULL,
	reason TEXT NOT NULL,
	expires TEXT NOT NULL,
	by_whom TEXT NOT NULL,
	at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE audit_exceptions;
DROP TABLE audits;
