-- +goose Up
-- Documents that people applied, as they wrote them.
CREATE TABLE policies (
	kind TEXT NOT NULL,
	name TEXT NOT NULL,
	document TEXT NOT NULL,
	applied_by TEXT NOT NULL,
	applied_at BIGINT NOT NULL,
	PRIMARY KEY (kind, name)
);

-- +goose Down
DROP TABLE policies;
